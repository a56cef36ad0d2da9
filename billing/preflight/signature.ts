import { randomBytes } from 'node:crypto';
import { signedTestEvent } from '../stripe-webhook.ts';
import { WEBHOOK_PATHS } from '../webhook.ts';
import { ask, failureText } from './ask.ts';
import { type Check, ok, type PreflightContext, skipped, stop } from './check.ts';

/**
 * Sends an event of ours the way Stripe's come: through the public address, the proxy and the signature check of the billing that
 * runs. A check within this process would show neither that the proxy leaves the body alone nor that the running billing has this
 * secret. The event is kept as one that nothing is done about.
 */
export const signature: Check = {
  id: 'signature',
  title: 'Signed events are taken, others refused',
  offline: false,
  async run(context) {
    const { config, mode, now } = context;
    const secret = config.stripe?.webhookSecret;
    if (!secret) return skipped('Not without STRIPE_WEBHOOK_SECRET.');
    try {
      const wrong = `whsec_${randomBytes(24).toString('hex')}`;
      const refused = await post(context, signedTestEvent(mode, wrong, now()));
      if (refused.status !== 400) {
        return stop(
          `An event that was signed with a made-up secret got ${refused.status}, not 400.`,
          'Have PUBLIC_BILLING_URL lead to this billing and nothing else, at every path.',
        );
      }
      const taken = await post(context, signedTestEvent(mode, secret, now()));
      if (taken.status === 200)
        return ok('A signed test event was taken, and one with a wrong signature refused.');
      const { code } = (await taken.json().catch(() => ({}))) as { code?: unknown };
      return stop(
        `A test event that was signed with STRIPE_WEBHOOK_SECRET got ${taken.status}${typeof code === 'string' ? ` ${code}` : ''}.`,
        code === 'stale_signature'
          ? 'Set the clocks of this machine and of the one that billing runs on.'
          : 'Restart billing with this STRIPE_WEBHOOK_SECRET, and have no proxy change the body of a request.',
      );
    } catch (error) {
      return stop(
        `${config.publicBillingUrl}${WEBHOOK_PATHS[0]} cannot be reached from here: ${failureText(error)}.`,
        'Start billing, and have PUBLIC_BILLING_URL lead to it.',
      );
    }
  },
};

function post(
  { config }: PreflightContext,
  { body, signature }: { body: string; signature: string },
): Promise<Response> {
  return ask(`${config.publicBillingUrl}${WEBHOOK_PATHS[0]}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', 'Stripe-Signature': signature },
    body,
  });
}
