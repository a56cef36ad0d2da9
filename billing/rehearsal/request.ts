/** How long an address may take to answer, milliseconds. */
const WAIT_MS = 15_000;

export type Answer = { status: number; headers: Headers; body: Record<string, unknown>; text: string };

/** Asks what a buyer or a buyer's program asks. `body` is empty where the answer is not JSON. @throws Error without an answer */
export async function request(
  url: string,
  options: { method?: string; headers?: Record<string, string>; json?: object } = {},
): Promise<Answer> {
  const response = await fetch(url, {
    method: options.method ?? (options.json ? 'POST' : 'GET'),
    headers: { ...(options.json ? { 'Content-Type': 'application/json' } : {}), ...options.headers },
    ...(options.json ? { body: JSON.stringify(options.json) } : {}),
    signal: AbortSignal.timeout(WAIT_MS),
  });
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    body: objectIn(response, text),
    text: text.trim(),
  };
}

function objectIn(response: Response, text: string): Record<string, unknown> {
  if (!/json/.test(response.headers.get('content-type') ?? '')) return {};
  try {
    const value: unknown = JSON.parse(text);
    return value !== null && typeof value === 'object' ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** What was answered, in a few words. */
export function answerText({ status, body }: Answer): string {
  return typeof body.code === 'string' ? `${status} ${body.code}` : String(status);
}

/** Whether the gateway let a call through, and the API behind it did not fail. */
export function isAdmitted({ status }: Pick<Answer, 'status'>): boolean {
  return status < 500 && ![401, 402, 403, 429].includes(status);
}
