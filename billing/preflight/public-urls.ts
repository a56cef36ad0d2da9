import { randomBytes } from 'node:crypto';
import { type Instance, provesInstance } from '../../shared/instance-proof.ts';
import { ask, failureText } from './ask.ts';
import { type Check, type Finding, ok, stop, warning } from './check.ts';

/** Each public address is asked for a proof that only this installation can give: see `shared/instance-proof.ts`. */
export const publicUrls: Check = {
  id: 'public-urls',
  title: 'Public addresses are HTTPS and lead here',
  offline: false,
  async run({ config, mode }) {
    const instances: Instance[] = [
      { service: 'billing', publicUrl: config.publicBillingUrl, serverSecret: config.serverSecret },
      { service: 'gateway', publicUrl: config.publicGatewayUrl, serverSecret: config.serverSecret },
    ];
    for (const instance of instances) {
      const fault = await faultOf(instance);
      if (fault !== null) return fault;
    }
    const plain = instances.filter(({ publicUrl }) => !publicUrl.startsWith('https:'));
    if (plain.length === 0) return ok('Both are HTTPS, and led to this installation.');
    const detail = `Not HTTPS: ${plain.map(({ publicUrl }) => publicUrl).join(', ')}.`;
    const remedy =
      'Put a proxy that speaks HTTPS in front, and set PUBLIC_BILLING_URL and PUBLIC_GATEWAY_URL.';
    const onlyHere = plain.every(({ publicUrl }) => isLoopback(new URL(publicUrl).hostname));
    return mode === 'test' && onlyHere
      ? warning(`${detail} Only this machine reaches them, which is enough to try things out.`, remedy)
      : stop(`${detail} Keys would travel in the clear.`, remedy);
  },
};

async function faultOf(instance: Instance): Promise<Finding | null> {
  const { service, publicUrl } = instance;
  const variable = service === 'billing' ? 'PUBLIC_BILLING_URL' : 'PUBLIC_GATEWAY_URL';
  const challenge = randomBytes(32).toString('base64url');
  let answer: { proof?: unknown } | null;
  try {
    const response = await ask(`${publicUrl}/health?challenge=${challenge}`);
    answer = (await response.json().catch(() => null)) as typeof answer;
  } catch (error) {
    return stop(
      `${publicUrl} cannot be reached from here: ${failureText(error)}.`,
      `Start the ${service}, have DNS, proxy and certificate lead to it, and set ${variable} to its address.`,
    );
  }
  if (provesInstance(answer?.proof, challenge, instance)) return null;
  return stop(
    `${publicUrl} answers, but not as the ${service} of this installation.`,
    `Have it lead to the ${service} that runs with this TOLLGATE_SECRET and ${variable}, and restart that after a change.`,
  );
}

export function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d+){3}$/.test(hostname);
}
