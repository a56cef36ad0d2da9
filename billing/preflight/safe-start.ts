import type { Check, PreflightContext } from './check.ts';
import { GitUnreadableError } from './git-secrets.ts';
import { keystorePlace } from './keystore-place.ts';
import { policies } from './policies.ts';
import { secretInTrackedFile } from './secrets.ts';

/**
 * What a production start asks of itself beside the configuration, which has been checked by then: what is a stop, needs nobody on a network, and changes only when somebody changes it. A
 * backup that grew old, an approval that is missing or a plan that has no price yet would also be stops, but a machine that
 * starts anew at night must not be down because of them: that takes the API from those who have paid.
 */
const ASKED: readonly Check[] = [keystorePlace, policies];
/** How long the start may search the files of git. */
const SEARCH_MS = 2000;

/** A production start that preflight would call a stop. */
export class UnsafeStartError extends Error {
  readonly exitCode = 78;

  constructor(faults: readonly string[]) {
    super(
      [
        'Preflight says stop, and this is production. Nothing was started.',
        ...faults.map((fault) => `  ${fault}`),
      ].join('\n'),
    );
    this.name = 'UnsafeStartError';
  }
}

/** @throws UnsafeStartError with everything that stands in the way */
export async function refuseUnsafeStart(context: PreflightContext): Promise<void> {
  const findings = [];
  for (const check of ASKED) findings.push(await check.run(context));
  const leak = await secretInTrackedFile(context, SEARCH_MS).catch((error: unknown) => {
    // Preflight stops at that. A machine that starts anew without its git is no less safe than it was.
    if (error instanceof GitUnreadableError) return null;
    throw error;
  });
  const stops = [...findings, ...(leak ? [leak] : [])].filter(({ verdict }) => verdict === 'stop');
  if (stops.length > 0)
    throw new UnsafeStartError(stops.map(({ detail, remedy }) => `${detail} ${remedy ?? ''}`.trim()));
}
