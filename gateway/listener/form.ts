import type { ProblemCode } from '../../shared/problems.ts';
import type { Exchange } from './exchange.ts';

/** What is wrong with the form of a request. */
export type FormFault = { code: ProblemCode; detail: string };

/** Header lines of one request at most. */
export const MAX_HEADER_LINES = 128;

/**
 * What `node:http` lets through and the gateway does not: the form of a request is one that two readers could take for
 * two different things, or that the gateway cannot do as it was asked.
 */
export const FORM_FAULTS = {
  tooManyHeaders: {
    code: 'headers_too_large',
    detail: `A request may have ${MAX_HEADER_LINES} header lines.`,
  },
  // A CGI-like server takes `Content_Length` for `Content-Length` (RFC 3875 section 4.1.18).
  underscoredFraming: {
    code: 'invalid_request',
    detail: 'Content-Length and Transfer-Encoding are spelt with a dash.',
  },
  coding: { code: 'coding_not_supported', detail: 'Of transfer codings only chunked is understood.' },
  // RFC 9112 section 6.1: faulty framing.
  codingInOldVersion: { code: 'invalid_request', detail: 'HTTP/1.0 has no Transfer-Encoding.' },
  expectation: { code: 'expectation_failed', detail: 'Of expectations only 100-continue can be met.' },
  // RFC 9112 section 3.2
  noHost: { code: 'invalid_request', detail: 'There is no Host header.' },
  severalHosts: { code: 'invalid_request', detail: 'There is more than one Host header.' },
  host: { code: 'invalid_request', detail: 'The Host header is not a host name with or without a port.' },
  version: { code: 'version_not_supported', detail: 'HTTP/1.1 and HTTP/1.0 are spoken here.' },
  target: { code: 'invalid_request', detail: 'The request target has to be a path, such as /v1/items.' },
  fragment: {
    code: 'invalid_request',
    detail: 'The request target has a fragment (#), which is for browsers only.',
  },
} as const satisfies Record<string, FormFault>;

/** RFC 9110 section 7.2, without the marks that RFC 3986 allows in a name and no name has. */
const HOST = /^(?:[\w.~%-]+|\[[0-9A-Fa-f:.]+\])?(?::\d{0,5})?$/;

/** The last one found to be one: nearly all requests say the same. */
let known = '';

export function isHost(value: string): boolean {
  if (value === known) return true;
  if (!HOST.test(value)) return false;
  known = value;
  return true;
}

/** The fault in the form of a request, if there is one. Such a request is refused before anything else is done with it. */
export function formFault({ req, head, target }: Exchange): FormFault | null {
  if (req.httpVersionMajor !== 1) return FORM_FAULTS.version;
  if (head.fault !== null) return head.fault;
  if (req.httpVersionMinor === 0) {
    if (head.hasBody && head.contentLength === null) return FORM_FAULTS.codingInOldVersion;
  } else if (head.hosts === 0) return FORM_FAULTS.noHost;
  if (target.charCodeAt(0) !== 47 /* slash */) return FORM_FAULTS.target;
  if (target.includes('#')) return FORM_FAULTS.fragment;
  return null;
}
