import { METHODS } from 'node:http';
import { type BlockList, isIP } from 'node:net';
import { clientAddress, type Peer } from '../listener/client-address.ts';
import type { Arrival } from '../listener/exchange.ts';
import { readRequestHead } from '../listener/headers.ts';
import { requestIdOf } from '../listener/request-id.ts';

/** Where a proxy asks, which is how it says what it asks about. Each reads its own headers and no others. */
export type VerifyForm =
  /** `/verify`: `X-Forwarded-Method`, `-Host`, `-Uri`, `-For` (Traefik, Caddy, HAProxy). */
  | 'forwarded'
  /** `/verify/nginx`: `X-Original-Method`, `X-Original-URL`, `X-Forwarded-For`. */
  | 'nginx'
  /** `/verify/envoy/...`: the request's own method and host, its target after the prefix, `X-Real-IP`. */
  | 'envoy';

const ENVOY = '/verify/envoy';
/** Those that can reach the gateway itself. Any other may be anything that a client made up, a secret too. */
const KNOWN_METHODS: ReadonlySet<string> = new Set(METHODS);

/** A request that a proxy asks about. Its method is empty where it is none that is known. */
export type AskedAbout = Pick<
  Arrival,
  'method' | 'target' | 'path' | 'head' | 'requestId' | 'address' | 'startedAt' | 'route'
>;

/** The proxy does not say, or not clearly, what it asks about: it was not set up for this. */
export type UnclearQuestion = { requestId: string; unclear: string };

/** Which form a request target of the internal listener is; `null`: none. */
export function verifyFormOf(target: string): VerifyForm | null {
  if (!target.startsWith('/verify')) return null;
  if (target.startsWith(ENVOY) && target.charCodeAt(ENVOY.length) === 47 /* slash */) return 'envoy';
  // Caddy adds the query of the request that it asks about.
  const query = target.indexOf('?');
  const path = query < 0 ? target : target.slice(0, query);
  if (path === '/verify') return 'forwarded';
  return path === '/verify/nginx' ? 'nginx' : null;
}

/**
 * Reads the request that a proxy asks about from the request it asks with.
 *
 * @param peer the proxy, which has to be a trusted one
 * @param trustedProxies whose entries in `X-Forwarded-For` are passed over when the client's address is looked for
 */
export function readQuestion(
  form: VerifyForm,
  question: { method: string; url: string; rawHeaders: readonly string[] },
  peer: Peer,
  trustedProxies: BlockList,
): AskedAbout | UnclearQuestion {
  const startedAt = performance.now();
  const rawHeaders = withoutProtocols(question.rawHeaders);
  const head = readRequestHead(rawHeaders);
  const requestId = requestIdOf(head.requestId, peer.trusted);
  let method: string | null = null;
  let target: string | null = null;
  let address: string | null = null;
  if (form === 'envoy') {
    method = question.method;
    target = question.url.slice(ENVOY.length);
    // Envoy adds an address of its own to X-Forwarded-For here, so that one does not tell.
    const realIp = onlyLine(rawHeaders, 'x-real-ip');
    if (realIp === null || isIP(realIp) === 0) return { requestId, unclear: 'X-Real-IP' };
    address = realIp;
  } else {
    if (form === 'nginx') {
      method = onlyLine(rawHeaders, 'x-original-method');
      const url = onlyLine(rawHeaders, 'x-original-url');
      const host = url === null ? -1 : url.indexOf('://') + 3;
      const slash = url === null || host < 3 ? -1 : url.indexOf('/', host);
      if (url === null || slash < 0) return { requestId, unclear: 'X-Original-URL' };
      head.host = url.slice(host, slash);
      target = url.slice(slash);
    } else {
      method = onlyLine(rawHeaders, 'x-forwarded-method');
      target = onlyLine(rawHeaders, 'x-forwarded-uri');
      if (target === null) return { requestId, unclear: 'X-Forwarded-Uri' };
      const host = onlyLine(rawHeaders, 'x-forwarded-host');
      if (host === null) return { requestId, unclear: 'X-Forwarded-Host' };
      head.host = host;
    }
    if (head.forwardedFor === '') return { requestId, unclear: 'X-Forwarded-For' };
    address = clientAddress(peer, head.forwardedFor, trustedProxies);
  }
  if (method === null) {
    return { requestId, unclear: form === 'nginx' ? 'X-Original-Method' : 'X-Forwarded-Method' };
  }
  if (!KNOWN_METHODS.has(method)) method = '';
  const query = target.indexOf('?');
  const path = query < 0 ? target : target.slice(0, query);
  return { method, target, path, head, requestId, address, startedAt, route: null };
}

/** The value of a header that has to be there once: of two, one may be the client's. */
function onlyLine(raw: readonly string[], lowerName: string): string | null {
  let found: string | null = null;
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] as string;
    if (name.length !== lowerName.length || name.toLowerCase() !== lowerName) continue;
    if (found !== null) return null;
    found = raw[i + 1] as string;
  }
  return found;
}

/** A key among WebSocket subprotocols is not taken: the proxy would pass it on, and only we could take it out. */
function withoutProtocols(raw: readonly string[]): readonly string[] {
  for (let i = 0; i < raw.length; i += 2) {
    if (isProtocols(raw[i] as string))
      return raw.filter((_each, j) => !isProtocols(raw[j - (j % 2)] as string));
  }
  return raw;
}

function isProtocols(name: string): boolean {
  return name.length === 22 && name.toLowerCase() === 'sec-websocket-protocol';
}
