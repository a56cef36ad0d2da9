import { type BlockList, isIP, type Socket } from 'node:net';

/** Who is at the other end of a connection. */
export type Peer = {
  address: string;
  /** Whether what this peer says of its own clients is believed. */
  trusted: boolean;
};

/** Reads the address of a connection, without the form IPv4 has on a dual-stack socket (`::ffff:192.0.2.1`). */
export function peerOf(socket: Socket, trustedProxies: BlockList, anyTrusted: boolean): Peer {
  const address = plainAddress(socket.remoteAddress ?? '');
  return { address, trusted: anyTrusted && isTrusted(address, trustedProxies) };
}

/**
 * The client's address: the peer's own, or, when the peer is a trusted proxy, the rightmost address in
 * `X-Forwarded-For` that is not one. Anything further left was written by somebody we have no reason to believe.
 *
 * @param forwardedFor all `X-Forwarded-For` lines joined by commas
 */
export function clientAddress(peer: Peer, forwardedFor: string, trustedProxies: BlockList): string {
  if (!peer.trusted || forwardedFor === '') return peer.address;
  let client = peer.address;
  for (const entry of forwardedFor.split(',').reverse()) {
    const address = withoutPort(entry.trim());
    if (isIP(address) === 0) return client;
    client = address;
    if (!isTrusted(address, trustedProxies)) return client;
  }
  return client;
}

function plainAddress(address: string): string {
  return address.startsWith('::ffff:') && isIP(address.slice(7)) === 4 ? address.slice(7) : address;
}

/** Some proxies write the port too: `192.0.2.1:4711`, `[2001:db8::1]:4711`. */
function withoutPort(entry: string): string {
  const bracketed = /^\[([^\]]+)\](?::\d+)?$/.exec(entry);
  if (bracketed) return bracketed[1] as string;
  const [address = '', port, ...rest] = entry.split(':');
  return plainAddress(port !== undefined && rest.length === 0 ? address : entry);
}

function isTrusted(address: string, trustedProxies: BlockList): boolean {
  const family = isIP(address);
  return family !== 0 && trustedProxies.check(address, family === 6 ? 'ipv6' : 'ipv4');
}
