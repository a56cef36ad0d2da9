import { type Answer, isAdmitted } from './request.ts';

const AT_ONCE = 20;

/**
 * Calls until a call is not let through.
 *
 * @param most how many calls to make at most, in rounds of twenty at once
 * @returns how many were let through, and the first that was not; `null`: all were
 */
export async function reachLimit(
  call: () => Promise<Answer>,
  most: number,
): Promise<{ admitted: number; refused: Answer | null }> {
  let admitted = 0;
  while (admitted <= most) {
    const answers = await Promise.all(Array.from({ length: AT_ONCE }, call));
    admitted += answers.filter(isAdmitted).length;
    const refused = answers.find((answer) => !isAdmitted(answer));
    if (refused) return { admitted, refused };
  }
  return { admitted, refused: null };
}
