import {
  type Credential,
  foreignAuthorizations,
  NO_CREDENTIAL,
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
  /** It waits to be told to send its body. */
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

/** Reads the raw header lines of a request, once. @param raw name, value, ... */
export function readRequestHead(raw: readonly string[]): RequestHead {
  HEAD_READER.begin();
  if (raw.length > 2 * MAX_HEADER_LINES) HEAD_READER.fault(FORM_FAULTS.tooManyHeaders);
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] as string;
    const value = raw[i + 1] as string;
    if (ENDS_HERE.mayHave(name.length, name.charCodeAt(0))) HEAD_READER.line(name.toLowerCase(), name, value);
    else HEAD_READER.endToEnd(name, value);
  }
  return HEAD_READER.end('');
}

/** Puts together what the gateway needs of a request's headers, line by line. */
class RequestHeadReader {
  #head: RequestHead = emptyHead();
  readonly #apiKeys: string[] = [];
  readonly #authorizations: string[] = [];
  #connection = '';
  #chunked = false;

  begin(): void {
    this.#head = emptyHead();
    // Setting the length would give their memory away, and each request would ask for it anew.
    while (this.#apiKeys.length > 0) this.#apiKeys.pop();
    while (this.#authorizations.length > 0) this.#authorizations.pop();
    this.#connection = '';
    this.#chunked = false;
  }

  fault(fault: FormFault): void {
    this.#head.fault ??= fault;
  }

  /** A line that goes on to the upstream, whatever it says. */
  endToEnd(name: string, value: string): void {
    this.#head.endToEnd.push(name, value);
  }

  /** Any line. @param lower the name in lower case */
  line(lower: string, name: string, value: string): void {
    const head = this.#head;
    switch (lower) {
      case 'x-api-key':
        this.#apiKeys.push(value);
        break;
      case 'authorization':
        this.#authorizations.push(value);
        break;
      case 'host':
        if (++head.hosts > 1) head.fault ??= FORM_FAULTS.severalHosts;
        else if (!isHost(value)) head.fault ??= FORM_FAULTS.host;
        head.host = value;
        break;
      case 'connection':
        this.#connection = this.#connection ? `${this.#connection},${value}` : value;
        break;
      case 'content-length':
        head.contentLength = value;
        head.hasBody ||= value !== '0';
        break;
      case 'transfer-encoding':
        // Two lines are one list (RFC 9110 section 5.3), and chunked may stand in it once.
        if (this.#chunked || value.toLowerCase() !== 'chunked') head.fault ??= FORM_FAULTS.coding;
        this.#chunked = true;
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
        const others = withoutOurProtocols(value, this.#apiKeys);
        if (others !== '') head.endToEnd.push(name, others);
        break;
      }
      case 'content_length':
      case 'transfer_encoding':
        head.fault ??= FORM_FAULTS.underscoredFraming;
        break;
      default:
        if (!endsHere(lower.includes('_') ? lower.replaceAll('_', '-') : lower))
          head.endToEnd.push(name, value);
    }
  }

  /**
   * That was all of them.
   *
   * @param unread end-to-end lines that are left as they are, each `name: value` with its CRLF; the key stands in none
   */
  end(unread: string): RequestHead {
    const head = this.#head;
    head.unread = unread;
    if (this.#apiKeys.length > 0 || this.#authorizations.length > 0) {
      head.credential = presentedKey(this.#apiKeys, this.#authorizations);
      for (const value of foreignAuthorizations(this.#authorizations, head.credential)) {
        head.endToEnd.push('Authorization', value);
      }
    }
    if (head.credential.kind === 'key') dropHeadersWith(head.endToEnd, head.credential.text);
    const connection = this.#connection;
    if (connection !== '' && !namesNothing(connection))
      head.endToEnd = withoutNamed(head.endToEnd, connection);
    return head;
  }
}

function emptyHead(): RequestHead {
  return {
    credential: NO_CREDENTIAL,
    endToEnd: [],
    unread: '',
    host: '',
    hosts: 0,
    fault: null,
    contentLength: null,
    hasBody: false,
    expectsContinue: false,
    wantsWebSocket: false,
    forwardedFor: '',
    forwardedProto: '',
    forwardedHost: '',
    requestId: '',
  };
}

/** One for all: a head is read in one go. */
export const HEAD_READER = new RequestHeadReader();

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
