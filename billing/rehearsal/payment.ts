import { randomBytes } from 'node:crypto';
import { lookAtSession } from '../stripe-look.ts';
import { request } from './request.ts';
import { ok, type Rehearsal, type Step, seconds, waitFor, wrong } from './step.ts';

const EVERY_MS = 2000;
/** What sessions look like of which there is nothing more to wait for. */
const OVER = new Set(['paid', 'expired', 'failed']);

/** The sandbox is paid by itself. At Stripe a person has to, with a card of their own or one of Stripe's test cards. */
export const payment: Step = {
  id: 'payment',
  title: 'It is paid',
  needed: true,
  plan: ({ config }) =>
    isSandbox(config)
      ? 'Pay in the sandbox.'
      : 'Wait for a person to pay in a browser; in test mode with 4242 4242 4242 4242.',
  async run(rehearsal, bought) {
    const { config, onCheckout, payWithinMs, stripe } = rehearsal;
    const { checkoutUrl = '', sessionId = '' } = bought;
    if (isSandbox(config)) await payInSandbox(rehearsal, sessionId);
    else onCheckout(checkoutUrl);
    const session = await waitFor(
      rehearsal,
      payWithinMs,
      async () => {
        const look = await lookAtSession(stripe, sessionId);
        return look && OVER.has(look.payment) ? look : null;
      },
      isSandbox(config) ? undefined : EVERY_MS,
    );
    if (session?.payment === 'paid') {
      bought.subscriptionId = session.subscription?.id ?? null;
      return ok(`Stripe says that it is paid${bought.subscriptionId ? `: ${bought.subscriptionId}` : ''}.`);
    }
    return session
      ? wrong(`Stripe says that the payment is ${session.payment}.`, 'Pay with another card.')
      : wrong(
          `Nobody paid within ${seconds(payWithinMs)}.`,
          'Open the link and pay, or give more time: --timeout 30m.',
        );
  },
};

function isSandbox({ stripe }: Rehearsal['config']): boolean {
  return stripe?.apiBase != null;
}

async function payInSandbox({ config }: Rehearsal, sessionId: string): Promise<void> {
  // Of a customer of its own: who had a trial before gets no second one.
  const email = `rehearsal-${randomBytes(6).toString('hex')}@example.com`;
  const paid = await request(`${config.stripe?.apiBase}/_sandbox/checkout/sessions/${sessionId}/pay`, {
    json: { card: 'success', email },
  });
  if (paid.status !== 200) throw new Error(`The sandbox refused the payment with ${paid.status}.`);
}
