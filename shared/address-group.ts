import { isIP } from 'node:net';

/**
 * What one client can be told apart by: an IPv4 address, or the /64 of an IPv6 one, as a single customer gets that much
 * (RFC 6177) and could otherwise change addresses with every request.
 */
export function addressGroup(address: string): string {
  // Some proxies write the port behind an IPv4 address.
  const [, withoutPort] = /^(\d+\.\d+\.\d+\.\d+):\d+$/.exec(address) ?? [];
  if (withoutPort) return withoutPort;
  if (address.startsWith('::ffff:') || isIP(address) !== 6) return address;
  const [left = '', right] = (address.split('%')[0] as string).split('::');
  const head = left === '' ? [] : left.split(':');
  const tail = right ? right.split(':') : [];
  const missing = right === undefined ? 0 : 8 - head.length - tail.length;
  const groups = [...head, ...Array<string>(Math.max(missing, 0)).fill('0'), ...tail];
  const network = groups.slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16));
  return `${network.join(':')}::/64`;
}
