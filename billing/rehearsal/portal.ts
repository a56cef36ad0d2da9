import { answerText, request } from './request.ts';
import { ok, type Step, skipped, wrong } from './step.ts';

export const portal: Step = {
  id: 'portal',
  title: 'The customer portal opens',
  needed: false,
  plan: () => "Open Stripe's customer portal with the key.",
  async run({ config }, { key = '', subscriptionId }) {
    const opened = await request(`${config.publicBillingUrl}/billing/portal`, {
      method: 'POST',
      headers: { 'X-API-Key': key },
    });
    const { url } = opened.body;
    // Who bought once has nothing to manage, and need not be a customer at Stripe.
    if (!subscriptionId && opened.body.code === 'no_portal')
      return skipped('There is no customer to manage.');
    if (opened.status !== 200 || typeof url !== 'string') {
      return wrong(
        `POST /billing/portal answered ${answerText(opened)}.`,
        'npm run preflight -- --repair sets the portal up; the key of the account needs the permission for it.',
      );
    }
    const page = await request(url, { headers: { Accept: 'text/html' } });
    return page.status === 200
      ? ok(`${new URL(url).origin} shows it.`)
      : wrong(`Its page answered ${page.status}.`, 'See in the Stripe dashboard, Settings, Customer portal.');
  },
};
