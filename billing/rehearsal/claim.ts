import { answerText, request } from './request.ts';
import { ok, type Step, seconds, waitFor, wrong } from './step.ts';

export const claim: Step = {
  id: 'claim',
  title: 'The key is handed over, once',
  needed: true,
  plan: () => 'Claim the key, and see that nobody can a second time.',
  async run(rehearsal, bought) {
    const { config, followWithinMs, goods } = rehearsal;
    const url = `${config.publicBillingUrl}/billing/purchases/${bought.purchaseId}`;
    const headers = { Authorization: `Bearer ${bought.claimToken}` };
    const ready = await waitFor(
      rehearsal,
      followWithinMs,
      async () => {
        const { body } = await request(url, { headers });
        return body.status === 'provisioned' || typeof body.failure === 'string' ? body : null;
      },
      1000,
    );
    if (ready?.status !== 'provisioned') {
      const why = ready ? `ended as ${ready.failure}` : `came to nothing within ${seconds(followWithinMs)}`;
      return wrong(
        `The purchase ${why}.`,
        'The README explains each code, under "Errors"; billing logs more.',
      );
    }
    const first = await request(`${url}/claim`, { method: 'POST', headers });
    const { key, key_id, plan } = first.body;
    if (first.status !== 200 || typeof key !== 'string')
      return wrong(
        `The claim answered ${answerText(first)}.`,
        'npm run why -- <key id>, and the log of billing.',
      );
    bought.key = key;
    if (plan !== goods.first.plan.id) {
      return wrong(
        `The key ${key_id} is of the plan ${plan}, and ${goods.first.plan.id} was bought.`,
        'Have one price stand for one plan.',
      );
    }
    const second = await request(`${url}/claim`, { method: 'POST', headers });
    if (second.status !== 410 || second.text.includes(key)) {
      return wrong(
        `A second claim answered ${answerText(second)}, not 410.`,
        'Have no proxy or cache answer for billing.',
      );
    }
    return ok(`Key ${key_id}, plan ${plan}; a second claim got ${answerText(second)}.`);
  },
};
