import { type Answer, answerText, isAdmitted, request } from './request.ts';
import { type Bought, ok, type Rehearsal, type Step, seconds, waitFor, wrong } from './step.ts';

export const gatewayCall: Step = {
  id: 'call',
  title: 'A call goes through the gateway',
  needed: true,
  plan: ({ config, path }) => `Call ${config.publicGatewayUrl}${path} with the key, and without.`,
  async run(rehearsal, bought) {
    const { config, followWithinMs, goods, path } = rehearsal;
    const planId = goods.first.plan.id;
    const known = await waitFor(rehearsal, followWithinMs, async () =>
      (await planAt(rehearsal, bought)) === planId ? planId : null,
    );
    if (!known) {
      return wrong(
        `${seconds(followWithinMs)} after the purchase GET /whoami does not know the key as one of ${planId}.`,
        'Have gateway and billing use one keystore, one TOLLGATE_SECRET and one plan file.',
      );
    }
    const answer = await callWith(rehearsal, bought);
    if (!isAdmitted(answer)) {
      return wrong(
        `GET ${path} answered ${answerText(answer)}.`,
        typeof answer.body.code === 'string'
          ? 'The README explains each code, under "Errors".'
          : 'That came from your API: give a path that it answers, --path /v1/status.',
      );
    }
    const without = await request(`${config.publicGatewayUrl}${path}`);
    if (without.status !== 401) {
      return wrong(
        `Without a key GET ${path} answered ${answerText(without)}, not 401.`,
        'Give a path that needs a key (--path), and have PUBLIC_GATEWAY_URL lead to the gateway.',
      );
    }
    return ok(
      `GET /whoami knows the plan ${planId}; GET ${path} got ${answer.status}, and ${without.status} without a key.`,
    );
  },
};

/** Calls the seller's API as the buyer does. */
export function callWith({ config, path }: Rehearsal, { key = '' }: Partial<Bought>): Promise<Answer> {
  return request(`${config.publicGatewayUrl}${path}`, { headers: { 'X-API-Key': key } });
}

/** Which plan the gateway takes the key for; `null`: it does not let it in. */
export async function planAt({ config }: Rehearsal, { key = '' }: Partial<Bought>): Promise<string | null> {
  const { status, body } = await request(`${config.publicGatewayUrl}/whoami`, {
    headers: { 'X-API-Key': key },
  });
  return status === 200 ? ((body.plan as { id?: string } | undefined)?.id ?? null) : null;
}

/** Waits until the gateway refuses the key for good; `null`: it goes on admitting. */
export function waitUntilRefused(
  rehearsal: Rehearsal,
  bought: Partial<Bought>,
  statuses: readonly number[],
): Promise<Answer | null> {
  return waitFor(rehearsal, rehearsal.followWithinMs, async () => {
    const answer = await callWith(rehearsal, bought);
    return statuses.includes(answer.status) && typeof answer.body.code === 'string' ? answer : null;
  });
}
