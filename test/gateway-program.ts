import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../scripts/free-port.ts';
import { newKeystoreUrl, openTestKeystore, SERVER_SECRET, TEST_KEY, temporaryFolder } from './keystores.ts';
import { type RunningProgram, startProgramUntil } from './processes.ts';

/** A gateway in a process of its own, so that its memory is its own, and a key of a plan without limits. */
export async function startGatewayProgram(
  upstreamUrl: string,
  env: Record<string, string> = {},
): Promise<{ program: RunningProgram; port: number; key: string }> {
  const keystoreUrl = newKeystoreUrl();
  const plansFile = join(temporaryFolder(), 'plans.yaml');
  writeFileSync(plansFile, 'plans: { open: { name: Open } }');
  const keystore = await openTestKeystore({ url: keystoreUrl });
  const { plaintext: key } = await keystore.createKey(TEST_KEY);
  await keystore.close();
  const port = await freePort();
  const program = await startProgramUntil(/gateway listens/, 'gateway/main.ts', {
    KEYSTORE_URL: keystoreUrl,
    TOLLGATE_SECRET: SERVER_SECRET,
    GATEWAY_PORT: String(port),
    INTERNAL_PORT: '0',
    UPSTREAM_URL: upstreamUrl,
    PLANS_FILE: plansFile,
    FAST_LANE: process.env.TEST_FAST_LANE ?? 'off',
    ...env,
  });
  return { program, port, key };
}
