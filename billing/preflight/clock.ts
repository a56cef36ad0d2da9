import { clockAhead } from '../stripe-clock.ts';
import { SIGNATURE_TOLERANCE_S } from '../stripe-webhook.ts';
import { type Check, ok, stop, warning } from './check.ts';

/** Signatures are refused beyond the tolerance; at half of it there is no time left for a late delivery. */
const STOP_S = SIGNATURE_TOLERANCE_S / 2;
const WARNING_S = 10;
const REMEDY = 'Have the clock of this machine set from the network (NTP).';

export const clock: Check = {
  id: 'clock',
  title: 'The clock is right',
  offline: false,
  async run({ stripe, now }) {
    const ahead = Math.round((await clockAhead(stripe, now)) / 1000);
    const off = Math.abs(ahead);
    if (off < WARNING_S) return ok("It is within seconds of Stripe's.");
    const detail = `It is ${off} seconds ${ahead > 0 ? 'ahead of' : 'behind'} Stripe's; webhooks are refused from ${SIGNATURE_TOLERANCE_S} on.`;
    return off < STOP_S ? warning(detail, REMEDY) : stop(detail, REMEDY);
  },
};
