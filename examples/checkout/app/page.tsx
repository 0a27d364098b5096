import { priceText } from '../lib/catalogue.ts'
import { latestOrders } from '../lib/database.ts'
import { redis } from '../lib/redis.ts'
import { createOrder, createOrderByHand } from './actions.ts'
import { KeepFresh } from './keep-fresh.tsx'
import { OrderForm } from './order-form.tsx'

// Reads orders on each request.
export const dynamic = 'force-dynamic'

const PAYMENT_TEXT = { charging: 'charging…', paid: 'paid', none: '–' }

export default async function Page() {
  const orders = await latestOrders()
  const isCharging = orders.some(({ payment }) => payment === 'charging')
  return (
    <main>
      <h1>Checkout</h1>
      <div className="ways">
        <OrderForm
          name="guarded"
          title="idempotentAction"
          explanation="Send it twice: one order, one charge, and the trace says so."
          action={createOrder}
        />
        <OrderForm
          name="by-hand"
          title="By hand"
          explanation={
            redis() === undefined
              ? 'Needs a Redis: set REDIS_URL and start again.'
              : 'Get, create, set. A repeat is seen; two at once are not. Nobody is charged.'
          }
          action={createOrderByHand}
        />
      </div>
      <h2>Orders</h2>
      <KeepFresh isNeeded={isCharging} />
      <table>
        <thead>
          <tr>
            <th>Number</th>
            <th>Item</th>
            <th>Quantity</th>
            <th>Price</th>
            <th>Way</th>
            <th>Payment</th>
          </tr>
        </thead>
        <tbody>
          {orders.map((order) => (
            <tr key={order.id}>
              <td>{order.id}</td>
              <td>{order.item}</td>
              <td>{order.quantity}</td>
              <td>{priceText(order.cents)}</td>
              <td>{order.way}</td>
              <td>{PAYMENT_TEXT[order.payment ?? 'none']}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </main>
  )
}
