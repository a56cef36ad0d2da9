/** How far apart the clocks of two machines may be, milliseconds. */
const CLOCK_SKEW_MS = 60_000;

/** What came of a look at Stripe. `stale`: a newer look was written before, so this one changed nothing. */
export type SyncOutcome = 'updated' | 'unchanged' | 'stale';

/**
 * Whether a look at Stripe is older than the one that is written: it must not overwrite it.
 *
 * @param written when the look that is written began; `null`: nothing is
 * @param looked when this look began
 */
export function isOlderLook(written: number | null, looked: number, now: number): boolean {
  // A look from the future was stamped by a clock that has been set back since; it must not shut out all others.
  return written !== null && written > looked && written <= now + CLOCK_SKEW_MS;
}
