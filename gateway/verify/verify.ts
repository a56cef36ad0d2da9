import type { IncomingMessage, ServerResponse } from 'node:http';
import { BlockList, type Socket } from 'node:net';
import type { Logger } from '../../shared/log.ts';
import type { ProblemCode } from '../../shared/problems.ts';
import { rateLimitHeaders } from '../answers/ratelimit-headers.ts';
import { type ProblemAnswer, problemAnswer, refusedAnswer } from '../answers/refusal.ts';
import type { Decide } from '../decision/decide.ts';
import type { Allowed, Decision } from '../decision/decision.ts';
import { release } from '../decision/spending.ts';
import { type Peer, peerOf } from '../listener/client-address.ts';
import { FORM_FAULTS } from '../listener/form.ts';
import { requestIdOf } from '../listener/request-id.ts';
import { type Outcome, outcomeOf } from '../metrics.ts';
import { type RefusedBecause, UNCLEAR_PATH } from '../request.ts';
import type { Route, Routes } from '../routes/routes.ts';
import { type AskedAbout, readQuestion, type UnclearQuestion, type VerifyForm } from './verify-request.ts';

/** A proxy that is not set up is one line in a while, not one for each request. */
const COMPLAINT_MS = 5000;

export type VerifyOptions = {
  decide: Decide;
  routes: Pick<Routes, 'match'>;
  /** Proxies that may ask beside those of this machine. */
  trustedProxies: BlockList;
  stopping(): boolean;
  /** Called for each request that was asked about. */
  onAnswered(
    asked: AskedAbout,
    outcome: Outcome,
    status: number,
    more: { keyId: string | null; code: ProblemCode | null; detail?: string | null },
  ): void;
  /** Called when something unforeseen was thrown. */
  onBug(asked: AskedAbout, error: unknown): void;
  now(): number;
  log: Logger;
};

/** Answers a proxy that asks about a request. */
export type Verify = (form: VerifyForm, req: IncomingMessage, res: ServerResponse) => void;

/**
 * Forward-auth: a proxy asks about each request before it forwards it, and is answered 200 with who sent it, or with the
 * problem that it hands on to its client. The same decision as on the gateway's own way, counted in the same way; only
 * what has to see the request's body or its answer is left to the proxy: the body limit, CORS, a cost that the upstream
 * tells, and how many requests are under way.
 */
export function createVerify(options: VerifyOptions): Verify {
  const { decide, routes, now, log } = options;
  const trustedProxies = withLoopback(options.trustedProxies);
  const peers = new WeakMap<Socket, Peer>();
  let complainedAt = Number.NEGATIVE_INFINITY;

  function peerAt(socket: Socket): Peer {
    let peer = peers.get(socket);
    if (peer === undefined) {
      peer = peerOf(socket, trustedProxies, true);
      peers.set(socket, peer);
    }
    return peer;
  }

  /** What is wrong with the proxy is ours to mend and never the client's fault: 500, and a line that says what it is. */
  function complain(
    form: VerifyForm,
    res: ServerResponse,
    requestId: string,
    detail: string,
    peer: Peer,
  ): void {
    if (performance.now() - complainedAt > COMPLAINT_MS) {
      complainedAt = performance.now();
      log.error({ proxy: peer.address, request_id: requestId }, `A proxy cannot be answered. ${detail}`);
    }
    send(form, res, 'proxy_misconfigured', problemAnswer(requestId, 'proxy_misconfigured', detail));
  }

  function allow(res: ServerResponse, asked: AskedAbout, allowed: Allowed | null): void {
    res.writeHead(200, verifiedHeaders(asked.requestId, allowed, options.stopping()));
    res.end();
    options.onAnswered(asked, 'verified', 200, { keyId: allowed?.key.id ?? null, code: null });
  }

  function refuse(
    form: VerifyForm,
    res: ServerResponse,
    asked: AskedAbout,
    code: ProblemCode,
    answer: ProblemAnswer,
    { key = null, detail }: RefusedBecause = {},
  ): void {
    send(form, res, code, answer);
    options.onAnswered(asked, outcomeOf(code), answer.status, {
      keyId: key?.id ?? null,
      code,
      detail: detail ?? null,
    });
  }

  function send(form: VerifyForm, res: ServerResponse, code: ProblemCode, answer: ProblemAnswer): void {
    const { status, reason, headers, body } = form === 'nginx' ? forNginx(code, answer) : answer;
    if (options.stopping()) headers.push('Connection', 'close');
    res.writeHead(status, reason, headers);
    res.end(body);
  }

  function refuseForm(
    form: VerifyForm,
    res: ServerResponse,
    asked: AskedAbout,
    code: ProblemCode,
    detail: string,
    headers: string[] = [],
  ): void {
    refuse(form, res, asked, code, problemAnswer(asked.requestId, code, detail, {}, headers), { detail });
  }

  function decideAndAnswer(form: VerifyForm, res: ServerResponse, asked: AskedAbout, route: Route): void {
    const { head, address } = asked;
    const { policy } = route;
    try {
      const decision = decide({ credential: head.credential, address, policy, now: now() }, 'spend');
      if (!(decision instanceof Promise)) decided(form, res, asked, decision);
      else
        decision
          .then((late) => decided(form, res, asked, late))
          .catch((error: unknown) => failed(form, res, asked, error));
    } catch (error) {
      failed(form, res, asked, error);
    }
  }

  function decided(form: VerifyForm, res: ServerResponse, asked: AskedAbout, decision: Decision): void {
    if (decision.allowed) {
      // When the request itself is over, nobody says here.
      release(decision);
      allow(res, asked, decision);
      return;
    }
    refuse(form, res, asked, decision.code, refusedAnswer(asked.requestId, decision), decision);
  }

  function failed(form: VerifyForm, res: ServerResponse, asked: AskedAbout, error: unknown): void {
    options.onBug(asked, error);
    if (res.headersSent) res.destroy();
    else refuse(form, res, asked, 'internal_error', problemAnswer(asked.requestId, 'internal_error'));
  }

  return function verify(form, req, res) {
    const peer = peerAt(req.socket);
    if (!peer.trusted) {
      const detail = 'The proxy that asks about this request is not one of TRUSTED_PROXIES.';
      complain(form, res, requestIdOf('', false), detail, peer);
      return;
    }
    const question = { method: req.method as string, url: req.url as string, rawHeaders: req.rawHeaders };
    const asked = readQuestion(form, question, peer, trustedProxies);
    if ('unclear' in asked) {
      complain(form, res, asked.requestId, unclear(asked), peer);
      return;
    }
    const { target, method } = asked;
    if (target.charCodeAt(0) !== 47 /* slash */ || target.includes('#')) {
      refuseForm(form, res, asked, 'invalid_request', FORM_FAULTS.target.detail);
      return;
    }
    if (method === '') {
      refuseForm(form, res, asked, 'invalid_request', 'The method is none of HTTP.');
      return;
    }
    const route = routes.match(asked.head.host, asked.path);
    if (typeof route !== 'string') asked.route = route;
    if (route === 'unclear_path') {
      refuseForm(form, res, asked, 'invalid_request', UNCLEAR_PATH);
    } else if (route === 'none') {
      refuseForm(form, res, asked, 'not_found', 'No route leads there.');
    } else if (route.policy.methods !== null && !route.policy.methods.includes(method)) {
      const allow = ['Allow', route.policy.methods.join(', ')];
      refuseForm(form, res, asked, 'method_not_allowed', `${method} is not for this path.`, allow);
    } else if (route.policy.access === 'public') {
      allow(res, asked, null);
    } else {
      decideAndAnswer(form, res, asked, route);
    }
  };
}

/**
 * The headers of a 200, as name, value, ...: what the upstream is to be told, each of them always there even when it is
 * empty, so that a proxy which copies them overwrites what the client made up; and what the client is to be told.
 *
 * @param allowed `null` on a public route
 */
function verifiedHeaders(requestId: string, allowed: Allowed | null, closing: boolean): string[] {
  const headers = allowed === null ? [] : rateLimitHeaders(allowed.windows, allowed.quota);
  headers.push(
    'X-Consumer-ID',
    allowed === null ? '' : (allowed.key.customerId ?? ''),
    'X-Consumer-Plan',
    allowed === null ? '' : allowed.plan.id,
    'X-Credential-Identifier',
    allowed === null ? '' : allowed.key.id,
    'X-Request-ID',
    requestId,
    'Cache-Control',
    'no-store',
    'Content-Length',
    '0',
  );
  if (closing) headers.push('Connection', 'close');
  return headers;
}

/**
 * The answer as nginx can hand it on: its `auth_request` knows 401 and 403, and drops the body. So every refusal but a 401
 * is a 403, with the real status and the problem in headers. A failure of ours stays a 5xx.
 */
function forNginx(code: ProblemCode, answer: ProblemAnswer): ProblemAnswer {
  const { status, headers, body } = answer;
  headers.push('X-Tollgate-Status', `${status}`, 'X-Tollgate-Code', code);
  headers.push('X-Tollgate-Problem', asciiJson(body.toString()));
  return status < 500 && status !== 401 ? { status: 403, reason: 'Forbidden', headers, body } : answer;
}

/** JSON without characters that a header could not carry. */
function asciiJson(json: string): string {
  return json.replace(/[^ -~]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

function unclear({ unclear: header }: UnclearQuestion): string {
  return `The proxy does not say once and clearly which request it asks about: ${header}.`;
}

/** Whoever is on this machine may ask: the internal listener is the machine's own. */
function withLoopback(trustedProxies: BlockList): BlockList {
  const all = new BlockList();
  all.fromJSON(trustedProxies.toJSON());
  all.addSubnet('127.0.0.0', 8, 'ipv4');
  all.addAddress('::1', 'ipv6');
  return all;
}
