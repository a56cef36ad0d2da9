import { lookup } from 'node:dns/promises';
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { addressesIn, isAmong } from '../../shared/address-ranges.ts';
import { ask, failureText } from './ask.ts';
import { type Check, type Finding, ok, skipped, type Verdict, warning } from './check.ts';
import { isLoopback } from './public-urls.ts';

const CONNECT_MS = 1000;
const PRIVATE = addressesIn([
  '10.0.0.0/8',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '100.64.0.0/10',
  '169.254.0.0/16',
  '127.0.0.0/8',
  '::1',
  'fc00::/7',
  'fe80::/10',
]);
const REMEDY = 'Have the API listen where only the gateway reaches it, or let a firewall see to that.';
const WORST: readonly Verdict[] = ['warning', 'skipped', 'ok'];

/**
 * From inside, nobody can tell what the world reaches. So this tries what can be tried, and says what that was: an API on this
 * machine at the machine's other addresses; one at a public address without a key. It never stops anything: what answers this
 * machine may well be shut to all others.
 */
export const upstream: Check = {
  id: 'upstream',
  title: 'The API is reached through the gateway only',
  offline: false,
  async run({ upstreamUrls, mode }) {
    if (upstreamUrls === null || upstreamUrls.length === 0)
      return skipped(
        'Where the gateway sends requests is not known here.',
        `npm run preflight -- --mode ${mode}, with UPSTREAM_URL or ROUTES_FILE of the gateway.`,
      );
    const findings = await Promise.all([...new Set(upstreamUrls)].map(tryAround));
    const verdict = WORST.find((each) => findings.some((finding) => finding.verdict === each)) as Verdict;
    const remedy = findings.find((finding) => finding.verdict === verdict)?.remedy;
    return { verdict, detail: findings.map(({ detail }) => detail).join(' '), ...(remedy ? { remedy } : {}) };
  },
};

async function tryAround(url: string): Promise<Finding> {
  const { hostname, port, protocol } = new URL(url);
  if (isLoopback(hostname)) return tryOtherAddresses(url, Number(port || (protocol === 'https:' ? 443 : 80)));
  const bare = hostname.replace(/^\[|\]$/g, '');
  const addresses = await lookup(bare, { all: true }).catch(() => []);
  if (addresses.length === 0)
    return warning(`${url}: its name cannot be resolved from here.`, 'Correct the address.');
  if (addresses.every(({ address }) => isAmong(PRIVATE, address))) {
    return skipped(
      `${url} is in a private network; who else reaches it there cannot be told from here.`,
      `Try it from outside: curl ${url}`,
    );
  }
  try {
    const { status } = await ask(url);
    if (status === 401 || status === 403)
      return ok(`${url} has a public address, and refused a request without credentials with ${status}.`);
    return warning(
      `${url} has a public address, and answered a request from this machine, which did not come through the gateway, with ${status}. Whether it answers others cannot be told from here.`,
      REMEDY,
    );
  } catch (error) {
    return ok(`${url} has a public address, and did not answer a request from here (${failureText(error)}).`);
  }
}

async function tryOtherAddresses(url: string, port: number): Promise<Finding> {
  const others = Object.values(networkInterfaces())
    .flatMap((each) => each ?? [])
    .filter(({ internal, address }) => !internal && !/^fe80:/i.test(address))
    .map(({ address }) => address);
  const open: string[] = [];
  for (const address of others) if (await connects(address, port)) open.push(address);
  if (open.length > 0) {
    return warning(
      `${url} listens on ${open.join(', ')} too, not only on this machine's own address. Whether a firewall stands before that cannot be told from here.`,
      REMEDY,
    );
  }
  return ok(
    others.length === 0
      ? `${url} is on this machine, which has no other address.`
      : `${url} is on this machine, and does not listen on its other addresses (tried: ${others.join(', ')}).`,
  );
}

function connects(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: CONNECT_MS });
    const end = (answered: boolean) => {
      socket.destroy();
      resolve(answered);
    };
    socket.once('connect', () => end(true));
    socket.once('timeout', () => end(false));
    socket.once('error', () => end(false));
  });
}
