import { BlockList, type Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { clientAddress, peerOf } from './client-address.ts';

const proxies = new BlockList();
proxies.addSubnet('10.0.0.0', 8, 'ipv4');
proxies.addAddress('2001:db8::1', 'ipv6');
const from = (remoteAddress: string, forwardedFor: string) =>
  clientAddress(peerOf({ remoteAddress } as Socket, proxies, true), forwardedFor, proxies);

describe('the client’s address', () => {
  it.each([
    ['a peer that is no proxy is the client, whatever it says', '203.0.113.9', '1.2.3.4', '203.0.113.9'],
    ['a proxy that says nothing is the client', '10.0.0.1', '', '10.0.0.1'],
    ['the rightmost address that is no proxy', '10.0.0.1', '6.6.6.6, 203.0.113.9, 10.0.0.7', '203.0.113.9'],
    ['all are proxies: the first', '10.0.0.1', '10.0.0.3, 10.0.0.2', '10.0.0.3'],
    ['an IPv4 proxy on a dual-stack socket', '::ffff:10.0.0.1', '203.0.113.9', '203.0.113.9'],
    ['an IPv6 proxy', '2001:db8::1', '2001:db8:5::7', '2001:db8:5::7'],
    ['with ports', '10.0.0.1', '203.0.113.9:4711', '203.0.113.9'],
    ['with brackets and ports', '10.0.0.1', '[2001:db8:5::7]:4711', '2001:db8:5::7'],
    ['nonsense ends what can be believed', '10.0.0.1', '203.0.113.9, unknown', '10.0.0.1'],
    ['nonsense further left does no harm', '10.0.0.1', 'x, 203.0.113.9', '203.0.113.9'],
  ])('%s', (_name, peer, forwardedFor, expected) => {
    expect(from(peer, forwardedFor)).toBe(expected);
  });

  it('believes nobody when no proxy is trusted', () => {
    const peer = peerOf({ remoteAddress: '10.0.0.1' } as Socket, proxies, false);
    expect(clientAddress(peer, '203.0.113.9', proxies)).toBe('10.0.0.1');
  });
});
