import { latestOrders } from '../lib/database'
import { redis } from '../lib/redis'
import { createOrder, createOrderByHand } from './actions'
import { OrderForm } from './order-form'

// Reads orders on each request.
export const dynamic = 'force-dynamic'

export default async function Page() {
  const orders = await latestOrders()
  return (
    <main>
      <h1>Checkout</h1>
      <div className="ways">
        <OrderForm
          name="guarded"
          title="idempotentAction"
          explanation="Send it twice: one order, and the trace says so."
          action={createOrder}
        />
        <OrderForm
          name="by-hand"
          title="By hand"
          explanation={
            redis() === undefined
              ? 'Needs a Redis: set REDIS_URL and start again.'
              : 'Get, create, set. A repeat is seen; two at once are not.'
          }
          action={createOrderByHand}
        />
      </div>
      <h2>Orders</h2>
      <table>
        <thead>
          <tr>
            <th>Number</th>
            <th>Item</th>
            <th>Quantity</th>
            <th>Way</th>
          </tr>
        </thead>
        <tbody>
          {orders.map((order) => (
            <tr key={order.id}>
              <td>{order.id}</td>
              <td>{order.item}</td>
              <td>{order.quantity}</td>
              <td>{order.way}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </main>
  )
}
