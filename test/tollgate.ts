import { startTollgate, type Tollgate } from '../scripts/compose.ts';
import { freePort } from '../scripts/free-port.ts';
import { createLogger } from '../shared/log.ts';
import { newKeystoreUrl } from './keystores.ts';

/** All that `npm start` starts, on free ports with a new keystore, and with everything it logs. */
export async function startTollgateUnderTest(
  env: Record<string, string> = {},
): Promise<Tollgate & { logLines: string[] }> {
  const logLines: string[] = [];
  const log = createLogger({ level: 'trace', destination: { write: (line) => void logLines.push(line) } });
  const tollgate = await startTollgate(
    {
      KEYSTORE_URL: newKeystoreUrl(),
      GATEWAY_PORT: String(await freePort()),
      BILLING_PORT: String(await freePort()),
      SANDBOX_PORT: '0',
      INTERNAL_PORT: '0',
      BILLING_INTERNAL_PORT: '0',
      ROUTES_FILE: 'off',
      SUPPORT_EMAIL: 'help@example.com',
      ...env,
    },
    () => log,
  );
  return { ...tollgate, logLines };
}

/** Calls the sandbox's control API. @throws Error when it refuses */
export async function controlSandbox(
  sandboxUrl: string,
  path: string,
  body: object = {},
): Promise<Record<string, unknown>> {
  const response = await fetch(`${sandboxUrl}/_sandbox${path}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  const answer = (await response.json()) as Record<string, unknown>;
  if (!response.ok) throw new Error(`${path}: ${response.status} ${JSON.stringify(answer)}`);
  return answer;
}
