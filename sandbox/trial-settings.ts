import { object, oneOf, required } from './params.ts';

/** What becomes of a trial that ends without a payment method. */
export type MissingMethod = 'cancel' | 'create_invoice' | 'pause';

export const trialSettingsShape = object({
  end_behavior: required(
    object({
      missing_payment_method: required(oneOf('cancel', 'create_invoice', 'pause')),
    }),
  ),
});
