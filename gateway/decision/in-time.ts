/**
 * Waits for the keystore no longer than `ms`. What it was asked goes on all the same.
 *
 * @throws Error when it has not answered by then
 */
export function inTime<T>(asked: Promise<T>, ms: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`The keystore does not answer within ${ms} ms`)), ms);
    asked.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
