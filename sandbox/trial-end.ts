import { invalid } from './errors.ts';
import { emitChanged } from './events.ts';
import { cancelNow } from './subscription-end.ts';
import { markPaused } from './subscription-pause.ts';
import { methodFor } from './subscription-payment.ts';
import type { Subscription } from './subscriptions.ts';
import type { World } from './world.ts';

/**
 * Ends a trial whose customer has no payment method as `trial_settings` say, if something will be due.
 * `before` holds what else of the subscription has changed.
 *
 * @returns whether that was the end of it; if not, the first paid period begins.
 */
export function endTrialWithoutMethod(
  world: World,
  sub: Subscription,
  before: Partial<Subscription> = {},
): boolean {
  const free = sub.items.data.every(({ price }) => price.unit_amount === 0);
  if (free || methodFor(world, sub) !== null) return false;
  const { missing_payment_method: behaviour } = sub.trial_settings.end_behavior;
  if (behaviour === 'create_invoice') return false;
  if (behaviour === 'pause') {
    markPaused(world, sub, 'trial_end_without_payment_method', before);
  } else {
    emitChanged(world, 'customer.subscription.updated', sub, before);
    cancelNow(world, sub, { reason: null });
  }
  return true;
}

/** Reads a parameter `trial_end`. @throws StripeError 400 for what is neither `now` nor a moment to come. */
export function readTrialEnd(world: World, text: string | undefined): number | 'now' | undefined {
  if (text === undefined || text === 'now') return text;
  const end = Number(text);
  if (!/^\d{1,12}$/.test(text))
    throw invalid(`Invalid trial_end: must be one of now or a timestamp`, 'trial_end');
  if (end <= world.clock.now()) throw invalid('trial_end must be in the future.', 'trial_end');
  return end;
}
