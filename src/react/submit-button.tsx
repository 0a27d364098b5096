'use client'

import type { ComponentProps, ReactNode } from 'react'
import { useFormStatus } from 'react-dom'

/** Everything that a `<button>` takes. */
export interface SubmitButtonProps extends ComponentProps<'button'> {
  /** Shown while the form is being sent. Default: the button's own content. */
  pendingText?: ReactNode
}

/** A submit button that cannot be pressed while its form is being sent. */
export function SubmitButton({ pendingText, children, disabled, ...props }: SubmitButtonProps) {
  const { pending } = useFormStatus()
  return (
    <button type="submit" {...props} disabled={disabled === true || pending} aria-busy={pending}>
      {pending ? (pendingText ?? children) : children}
    </button>
  )
}
