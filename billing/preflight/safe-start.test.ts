import { execFileSync } from 'node:child_process';
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { temporaryFolder } from '../../test/keystores.ts';
import { liveEnvironment, type PreflightRig, startPreflightRig } from '../../test/preflight.ts';
import { runProgram } from '../../test/processes.ts';
import { refuseUnsafeStart } from './safe-start.ts';

let rig: PreflightRig;
beforeAll(async () => {
  rig = await startPreflightRig();
});
afterAll(() => rig.close());

it('a start that preflight only warns of is none to refuse', async () => {
  await refuseUnsafeStart(rig.context);
});

it('names a secret in a tracked file', async () => {
  const folder = temporaryFolder();
  copyFileSync(join(rig.folder, 'preflight.yaml'), join(folder, 'preflight.yaml'));
  execFileSync('sh', ['-c', 'git init -q . && printenv SECRET > notes.txt && git add .'], {
    cwd: folder,
    env: { ...process.env, SECRET: rig.environment.TOLLGATE_SECRET },
  });
  const refusal = expect(refuseUnsafeStart({ ...rig.context, folder })).rejects;
  await refusal.toMatchObject({
    exitCode: 78,
    message: expect.stringContaining('In a file that git tracks: TOLLGATE_SECRET in notes.txt.'),
  });
});

it.each(['billing/main.ts', 'scripts/start.ts'])(
  '%s with a live key: exit 78 with every stop that is known without a network',
  async (script) => {
    const { code, output } = await runProgram(script, {
      ...liveEnvironment(),
      UPSTREAM_URL: 'http://127.0.0.1:3000',
    });
    expect({ code, output }).toMatchObject({ code: 78 });
    expect(output).toContain('Preflight says stop, and this is production. Nothing was started.');
    expect(output).toContain('is a folder for temporary files');
    expect(output).toContain('Unset: SUPPORT_EMAIL, TERMS_URL, REFUND_POLICY_URL, PRIVACY_URL.');
    // These change by the passing of time, and must not take a running API away.
    expect(output).not.toMatch(/backed up|preflight\.yaml|without a price/i);
    expect(output).not.toContain('    at ');
  },
);
