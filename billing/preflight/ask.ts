/** How long an address may take to answer, milliseconds. */
const WAIT_MS = 5000;

/** A request to an address of the seller's, which leads nowhere else. @throws Error when there is no answer */
export function ask(url: string, init: RequestInit = {}): Promise<Response> {
  return fetch(url, { redirect: 'manual', ...init, signal: AbortSignal.timeout(WAIT_MS) });
}

/** Why there was no answer, in a few words. */
export function failureText(error: unknown): string {
  const { name, message, cause } = error as Error & { cause?: { code?: string; message?: string } };
  if (name === 'TimeoutError') return `no answer within ${WAIT_MS / 1000} seconds`;
  return cause?.code ?? cause?.message ?? message;
}
