/** Waits for something, and not for longer than this. */
export async function inTime(work: Promise<void>, limitMs: number): Promise<void> {
  let late: NodeJS.Timeout | undefined;
  const limit = new Promise<void>((resolve) => {
    late = setTimeout(resolve, limitMs);
  });
  await Promise.race([work, limit]);
  clearTimeout(late);
}
