import { redact } from '../../shared/log.ts';
import { ProblemError } from '../../shared/problems.ts';
import { accessEnds } from './access-ends.ts';
import { cancellation } from './cancellation.ts';
import { checkout } from './checkout.ts';
import { claim } from './claim.ts';
import { gatewayCall } from './gateway-call.ts';
import { giveBack } from './give-back.ts';
import { licence } from './licence.ts';
import { limit } from './limit.ts';
import { payment } from './payment.ts';
import { portal } from './portal.ts';
import { refund } from './refund.ts';
import { type Bought, type Finding, type Rehearsal, type Step, skipped, wrong } from './step.ts';
import { upgrade } from './upgrade.ts';
import { webhook } from './webhook.ts';

export type { Goods } from './goods.ts';
export { chooseGoods } from './goods.ts';
export type { Finding, Rehearsal } from './step.ts';

/** A purchase from its beginning to its end. */
export const STEPS: readonly Step[] = [
  checkout,
  payment,
  webhook,
  claim,
  gatewayCall,
  limit,
  upgrade,
  portal,
  licence,
  cancellation,
  accessEnds,
  refund,
];

/** Always the last, whatever became of the others. */
const GIVE_BACK = { id: 'give-back', title: 'What was bought is canceled and given back' } as const;

/** What a step came to. */
export type Result = Finding & { id: string; title: string };

/** What would be done, a sentence a step. Asks nobody. */
export function rehearsalPlan(
  about: Pick<Rehearsal, 'config' | 'goods' | 'path'>,
): { id: string; title: string; plan: string }[] {
  return [
    ...STEPS.map((step) => ({ id: step.id, title: step.title, plan: step.plan(about) })),
    { ...GIVE_BACK, plan: 'Cancel and refund whatever is left, also when a step failed.' },
  ];
}

/**
 * Buys, uses, changes, cancels and gives back. What was bought is given back in any case, also when the signal ends it early.
 *
 * @param onResult called with each as it is known; the next step waits for it
 */
export async function rehearse(
  rehearsal: Rehearsal,
  onResult: (result: Result) => void | Promise<void> = () => {},
): Promise<Result[]> {
  const results: Result[] = [];
  const bought: Partial<Bought> = {};
  let failed: Step | null = null;
  const note = async ({ id, title }: { id: string; title: string }, finding: Finding) => {
    const result = { id, title, ...finding };
    results.push(result);
    await onResult(result);
  };
  for (const step of STEPS) {
    const finding = failed
      ? skipped(`Not after: ${failed.title}.`)
      : await findingOf(step, rehearsal, bought);
    if (finding.verdict === 'wrong' && (step.needed || rehearsal.signal.aborted)) failed = step;
    await note(step, finding);
  }
  const { sessionId, purchaseId } = bought;
  await note(
    GIVE_BACK,
    sessionId === undefined || purchaseId === undefined
      ? skipped('Nothing was bought.')
      : await giveBack(rehearsal.stripe, { sessionId, purchaseId }).catch((error: unknown) =>
          wrong(
            failureOf(error),
            `In the Stripe dashboard, look for ${purchaseId}; cancel and refund it there.`,
          ),
        ),
  );
  return results;
}

async function findingOf(step: Step, rehearsal: Rehearsal, bought: Partial<Bought>): Promise<Finding> {
  try {
    rehearsal.signal.throwIfAborted();
    return await step.run(rehearsal, bought);
  } catch (error) {
    if (rehearsal.signal.aborted) return wrong('It was interrupted.', 'Run it again.');
    const remedy =
      error instanceof ProblemError && error.code === 'stripe_refused'
        ? 'Give the key of your Stripe account the permission: the README lists them.'
        : 'See that billing and gateway run, and try again.';
    return wrong(failureOf(error), remedy);
  }
}

function failureOf(error: unknown): string {
  const { message, cause } = error as Error;
  const said = cause instanceof Error ? ` (${cause.message})` : '';
  return redact(`It could not be done: ${message}${said}`);
}
