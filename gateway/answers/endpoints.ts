import express, { type ErrorRequestHandler, type Request, type Response } from 'express';
import type { Keystore } from '../../keystore/keystore.ts';
import { type Instance, instanceProof } from '../../shared/instance-proof.ts';
import type { Logger } from '../../shared/log.ts';
import type { ProblemCode } from '../../shared/problems.ts';
import type { Decide } from '../decision/decide.ts';
import type { Allowed } from '../decision/decision.ts';
import { inTime } from '../decision/in-time.ts';
import { closeAfter, type Exchange } from '../listener/exchange.ts';
import type { RefusedBecause } from '../request.ts';
import { POLICY_DEFAULTS } from '../routes/route-spec.ts';
import { corsHeaders } from './cors.ts';
import { rateLimitHeaders } from './ratelimit-headers.ts';
import { answerProblem, answerRefused } from './refusal.ts';

/** How long `/ready` waits for the keystore. */
const READY_WAIT_MS = 1000;

type Options = {
  decide: Decide;
  keystore: Pick<Keystore, 'checkReadable' | 'changes'>;
  stopping(): boolean;
  /** Whether known keys go on working although the keystore is away. @param now milliseconds since the epoch */
  inGrace(now: number): boolean;
  onAnswered(exchange: Exchange, status: number): void;
  onRefused(exchange: Exchange, code: ProblemCode, more?: RefusedBecause): void;
  now(): number;
  log: Logger;
  /** What it proves itself as. */
  instance: Instance;
};

/** The gateway's own few endpoints. They cost nothing of any limit. */
export function createEndpoints(options: Options): (exchange: Exchange) => void {
  const { decide, keystore, log } = options;
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.set('query parser', 'simple');
  app.enable('case sensitive routing');
  app.enable('strict routing');

  const answer = (res: Response, status: number, body: unknown, headers: string[] = []) => {
    const exchange = exchangeOf(res);
    const lines = [...headers, ...(corsHeaders(exchange) ?? [])];
    for (let i = 0; i < lines.length; i += 2) res.setHeader(lines[i] as string, lines[i + 1] as string);
    res.setHeader('X-Request-ID', exchange.requestId);
    res.setHeader('Cache-Control', 'no-store');
    if (exchange.connection.ending && closeAfter(exchange)) res.setHeader('Connection', 'close');
    res.status(status).json(body);
    options.onAnswered(exchange, status);
  };
  const refuse = (exchange: Exchange, code: ProblemCode, headers: string[] = []) => {
    answerProblem(exchange, code, undefined, {}, headers);
    options.onRefused(exchange, code);
  };
  /** Decides without spending, and answers with what `describe` makes of it. */
  const aboutKey = (describe: (allowed: Allowed) => unknown) => async (_req: Request, res: Response) => {
    const exchange = exchangeOf(res);
    const { head, address } = exchange;
    const decision = await decide(
      { credential: head.credential, address, policy: POLICY_DEFAULTS, now: options.now() },
      'look',
    );
    if (decision.allowed) {
      answer(res, 200, describe(decision), rateLimitHeaders(decision.windows, decision.quota));
      return;
    }
    answerRefused(exchange, decision);
    options.onRefused(exchange, decision.code, decision);
  };

  /** Whether the keystore can be read, and tells what changes. */
  const answers = async () => {
    if (!keystore.changes.healthy) return false;
    try {
      await inTime(keystore.checkReadable(), READY_WAIT_MS);
      return true;
    } catch (error) {
      log.warn({ err: error }, 'The keystore cannot be read');
      return false;
    }
  };

  app.get('/whoami', aboutKey(whoami));
  app.get('/quota', aboutKey(limitsOf));
  app.get('/health', (req, res) => {
    const proof = instanceProof(req.query.challenge, options.instance);
    answer(res, 200, proof === undefined ? { status: 'ok' } : { proof });
  });
  app.get('/ready', async (_req, res) => {
    if (options.stopping()) return refuse(exchangeOf(res), 'stopping', ['Retry-After', '1']);
    if (await answers()) return answer(res, 200, { status: 'ok' });
    // Whoever takes all gateways out for it ends what the grace is for.
    if (options.inGrace(options.now())) return answer(res, 200, { status: 'keystore_away' });
    return refuse(exchangeOf(res), 'keystore_unavailable', ['Retry-After', '1']);
  });
  app.use((_req, res) => refuse(exchangeOf(res), 'method_not_allowed', ['Allow', 'GET, HEAD']));
  const onError: ErrorRequestHandler = (error: unknown, _req, res, _next) => {
    log.error({ err: error, request_id: exchangeOf(res).requestId }, 'An own endpoint failed');
    if (res.headersSent) res.destroy();
    else refuse(exchangeOf(res), 'internal_error');
  };
  app.use(onError);

  return (exchange) => {
    // Express keeps an existing `locals`; it is where its handlers find what was already read.
    Object.assign(exchange.res, { locals: { exchange } });
    app(exchange.req, exchange.res);
  };
}

function exchangeOf(res: Response): Exchange {
  return (res.locals as { exchange: Exchange }).exchange;
}

function whoami(allowed: Allowed) {
  const { key, plan, access } = allowed;
  const inGrace = key.subscription?.status === 'past_due';
  return {
    key_id: key.id,
    last_four: key.lastFour,
    mode: key.mode,
    state: access.state,
    access_until: inGrace ? isoTime(access.until) : null,
    plan: { id: plan.id, name: plan.name },
    quantity: key.quantity,
    customer_id: key.customerId,
    ...limitsOf(allowed),
    features: [...new Set([...plan.features, ...key.entitlements])],
    expires_at: isoTime(key.expiresAt),
    subscription: key.subscription && {
      status: key.subscription.status,
      current_period_end: isoTime(key.subscription.currentPeriodEnd),
      cancel_at: isoTime(key.subscription.cancelAt),
      trial_end: isoTime(key.subscription.trialEnd),
      past_due_since: isoTime(key.subscription.pastDueSince),
    },
  };
}

function limitsOf({ windows, quota }: Allowed) {
  return {
    limits: windows.map((window) => ({
      name: window.name,
      limit: window.limit,
      remaining: window.remaining,
      reset_seconds: window.resetSeconds,
      window_seconds: window.windowSeconds,
    })),
    quota: quota && {
      limit: quota.limit,
      used: quota.used,
      remaining: quota.remaining,
      resets_at: isoTime(quota.resetsAt),
    },
  };
}

function isoTime(milliseconds: number | null): string | null {
  return milliseconds === null ? null : new Date(milliseconds).toISOString();
}
