import type { EventRecord, Keystore } from '../../keystore/keystore.ts';
import { findPaidEvent } from '../stripe-changes.ts';
import { ok, type Step, seconds, waitFor, wrong } from './step.ts';

/** The purchase goes through without it, since whoever asks for the key makes billing look. Renewals and ends do not. */
export const webhook: Step = {
  id: 'webhook',
  title: 'The webhook arrives',
  needed: true,
  plan: () => 'Wait for the event of the payment to arrive, and to be worked off.',
  async run(rehearsal, { sessionId = '' }) {
    const { followWithinMs, keystore, stripe } = rehearsal;
    let eventId: string | null = null;
    let state = 'has not arrived';
    const done = await waitFor(rehearsal, followWithinMs, async () => {
      eventId ??= await findPaidEvent(stripe, sessionId);
      const event = eventId === null ? undefined : await arrived(keystore, eventId);
      if (event && event.status !== 'processed') state = `arrived, and is ${event.status}`;
      return event?.status === 'processed' ? event : null;
    });
    if (done) return ok(`${done.type} arrived, and came to: ${done.outcome}.`);
    return eventId === null
      ? wrong('Stripe has no event of this payment.', 'Run it again; Stripe may be slow.')
      : wrong(
          `${seconds(followWithinMs)} later the event ${eventId} ${state}.`,
          'See at Stripe what its delivery was answered with (Developers, Webhooks), and npm run events -- list.',
        );
  },
};

/** Of the newest so many in the inbox, a thin event is looked for. */
const NEWEST = 100;

/** A thin event has an id of its own, and names the other. */
async function arrived(keystore: Keystore, eventId: string): Promise<EventRecord | undefined> {
  const found = await keystore.findEvent(eventId);
  if (found) return found;
  const newest = await keystore.listEvents({ limit: NEWEST });
  return newest.find(({ payload }) => payload.includes(`"${eventId}"`));
}
