import {
  type Credential,
  foreignAuthorizations,
  presentedKey,
  withoutOurProtocols,
} from '../decision/presented-key.ts';
import { FORM_FAULTS, type FormFault, isHost, MAX_HEADER_LINES } from './form.ts';
import { HeaderNames } from './header-names.ts';

/** What the gateway needs of a request's headers, from one pass over them. */
export type RequestHead = {
  credential: Credential;
  /** End-to-end headers that may go upstream, as name, value, name, value, ... in the order and spelling received. */
  endToEnd: string[];
  /** Those before them that were left as they came, each line with its CRLF; see {@link readTheRest}. */
  unread: string;
  host: string;
  /** How many `Host` lines there were. */
  hosts: number;
  /** What is wrong with the lines, if anything is. The first fault found. */
  fault: FormFault | null;
  /** `null`: no body, or one of unknown length. */
  contentLength: string | null;
  hasBody: boolean;
  expectsContinue: boolean;
  wantsWebSocket: boolean;
  /** What proxies said of the client, all lines joined. Believed only when it comes from a trusted proxy. */
  forwardedFor: string;
  forwardedProto: string;
  forwardedHost: string;
  requestId: string;
};

/**
 * Headers that end here. RFC 9110 section 7.6.1 names the hop-by-hop ones; the rest says who the client is, which only
 * the gateway may say. A name spelt with underscores is the same one to a CGI-like upstream (`HTTP_X_API_KEY`), so it
 * ends here too, without being read.
 */
export const ENDS_HERE = new HeaderNames(
  [
    'connection',
    'keep-alive',
    'proxy-connection',
    'proxy-authenticate',
    'proxy-authorization',
    'te',
    'trailer',
    'transfer-encoding',
    'upgrade',
    'expect',
    'host',
    'content-length',
    'authorization',
    'x-api-key',
    'x-request-id',
    'x-real-ip',
    // Some frameworks take the path from these, whatever the request line says.
    'x-original-url',
    'x-rewrite-url',
    'sec-websocket-protocol',
    'forwarded',
  ],
  'x',
);
const OURS = /^x-(?:consumer|credential|forwarded)-/;

/** What `Connection` almost always says. */
const NAMES_NOTHING = /^(?:keep-alive|close)$/i;

/** Whether a `Connection` header surely names no other header. */
export function namesNothing(connection: string): boolean {
  return NAMES_NOTHING.test(connection);
}

/** Whether a header ends here. @param plain its name in lower case, with dashes for underscores */
export function endsHere(plain: string): boolean {
  return ENDS_HERE.has(plain) || (plain.startsWith('x-') && OURS.test(plain));
}

/**
 * Reads the raw header lines of a request, once.
 *
 * @param unread end-to-end lines that are left as they are, each `name: value` with its CRLF; the key stands in none
 */
export function readRequestHead(raw: readonly string[], unread = ''): RequestHead {
  const endToEnd: string[] = [];
  const apiKeys: string[] = [];
  const authorizations: string[] = [];
  const head: RequestHead = {
    credential: { kind: 'none' },
    endToEnd,
    unread,
    host: '',
    hosts: 0,
    fault: raw.length > 2 * MAX_HEADER_LINES ? FORM_FAULTS.tooManyHeaders : null,
    contentLength: null,
    hasBody: false,
    expectsContinue: false,
    wantsWebSocket: false,
    forwardedFor: '',
    forwardedProto: '',
    forwardedHost: '',
    requestId: '',
  };
  let connection = '';
  let chunked = false;
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] as string;
    const value = raw[i + 1] as string;
    if (!ENDS_HERE.mayHave(name.length, name.charCodeAt(0))) {
      endToEnd.push(name, value);
      continue;
    }
    const lower = name.toLowerCase();
    switch (lower) {
      case 'x-api-key':
        apiKeys.push(value);
        break;
      case 'authorization':
        authorizations.push(value);
        break;
      case 'host':
        if (++head.hosts > 1) head.fault ??= FORM_FAULTS.severalHosts;
        else if (!isHost(value)) head.fault ??= FORM_FAULTS.host;
        head.host = value;
        break;
      case 'connection':
        connection = connection ? `${connection},${value}` : value;
        break;
      case 'content-length':
        head.contentLength = value;
        head.hasBody ||= value !== '0';
        break;
      case 'transfer-encoding':
        // Two lines are one list (RFC 9110 section 5.3), and chunked may stand in it once.
        if (chunked || value.toLowerCase() !== 'chunked') head.fault ??= FORM_FAULTS.coding;
        chunked = true;
        head.hasBody = true;
        break;
      case 'expect':
        if (value.toLowerCase() === '100-continue') head.expectsContinue = true;
        else head.fault ??= FORM_FAULTS.expectation;
        break;
      case 'upgrade':
        head.wantsWebSocket ||= value.toLowerCase().includes('websocket');
        break;
      case 'x-forwarded-for':
        head.forwardedFor = head.forwardedFor ? `${head.forwardedFor},${value}` : value;
        break;
      case 'x-forwarded-proto':
        head.forwardedProto = value;
        break;
      case 'x-forwarded-host':
        head.forwardedHost = value;
        break;
      case 'x-request-id':
        head.requestId = value;
        break;
      case 'sec-websocket-protocol': {
        const others = withoutOurProtocols(value, apiKeys);
        if (others !== '') endToEnd.push(name, others);
        break;
      }
      case 'content_length':
      case 'transfer_encoding':
        head.fault ??= FORM_FAULTS.underscoredFraming;
        break;
      default:
        if (!endsHere(lower.includes('_') ? lower.replaceAll('_', '-') : lower)) endToEnd.push(name, value);
    }
  }
  if (apiKeys.length > 0 || authorizations.length > 0) {
    head.credential = presentedKey(apiKeys, authorizations);
    for (const value of foreignAuthorizations(authorizations, head.credential)) {
      endToEnd.push('Authorization', value);
    }
  }
  if (head.credential.kind === 'key') dropHeadersWith(endToEnd, head.credential.text);
  if (connection !== '' && !namesNothing(connection)) head.endToEnd = withoutNamed(endToEnd, connection);
  return head;
}

/** Reads the lines that were left as they came. */
export function readTheRest(head: RequestHead): void {
  if (head.unread === '') return;
  const lines: string[] = [];
  for (const line of head.unread.split('\r\n')) {
    if (line === '') continue;
    const colon = line.indexOf(':');
    lines.push(line.slice(0, colon), line.slice(colon + 2));
  }
  head.endToEnd = lines.concat(head.endToEnd);
  head.unread = '';
}

/** The key is for us only, also where a client put it into a header of another name. */
function dropHeadersWith(headers: string[], key: string): void {
  for (let i = headers.length - 2; i >= 0; i -= 2) {
    if ((headers[i + 1] as string).includes(key)) headers.splice(i, 2);
  }
}

/** Drops the headers that `Connection` names (RFC 9110 section 7.6.1: they are for one hop only). */
export function withoutNamed(headers: string[], connection: string): string[] {
  const named = connection
    .toLowerCase()
    .split(',')
    .map((token) => token.trim())
    .filter((token) => token !== '' && token !== 'keep-alive' && token !== 'close');
  if (named.length === 0) return headers;
  const kept: string[] = [];
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i] as string;
    if (!named.includes(name.toLowerCase())) kept.push(name, headers[i + 1] as string);
  }
  return kept;
}
