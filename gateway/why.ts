import type { IncomingMessage, ServerResponse } from 'node:http';
import { fieldErrors } from '../shared/field-errors.ts';
import type { Logger } from '../shared/log.ts';
import { type Problem, ProblemError, problem } from '../shared/problems.ts';
import { questionSchema, type Verdict, type WhyQuestion } from '../shared/verdict.ts';
import type { Decide } from './decision/decide.ts';
import { type Decision, refused } from './decision/decision.ts';
import type { Key } from './decision/key.ts';
import { POLICY_DEFAULTS, type RoutePolicy } from './routes/route-spec.ts';
import type { Routes } from './routes/routes.ts';

type Options = {
  decide: Decide;
  facts: { load(id: string): Promise<Key | undefined> };
  routes: Pick<Routes, 'match'>;
  now(): number;
  log: Logger;
};

/** Answers `GET /why` of the internal listener. */
export type Why = (req: IncomingMessage, res: ServerResponse) => Promise<void>;

/**
 * Answers what would become of a request with a key now, and why: the decision that the request itself would get, without the
 * key being presented and without anything being counted.
 */
export function createWhy({ decide, facts, routes, now, log }: Options): Why {
  async function answerTo(question: WhyQuestion): Promise<Verdict> {
    const key = await facts.load(question.key_id).catch((error: unknown) => {
      throw new ProblemError('keystore_unavailable', undefined, {}, { cause: error });
    });
    if (key === undefined) throw new ProblemError('not_found', 'There is no key with this id.');
    const route = question.path === undefined ? null : routes.match(question.host ?? '', question.path);
    if (route === 'none') return verdictOf(refused('not_found', { detail: 'No route leads there.' }), null);
    if (route === 'unclear_path')
      return verdictOf(
        refused('invalid_request', { detail: 'The path could be taken for another one.' }),
        null,
      );
    const policy: RoutePolicy = route?.policy ?? POLICY_DEFAULTS;
    const name = route?.name ?? null;
    const { method, address = null } = question;
    if (method !== undefined && policy.methods !== null && !policy.methods.includes(method))
      return verdictOf(refused('method_not_allowed', { detail: `${method} is not for this path.` }), name);
    if (policy.access === 'public') return { ...PUBLIC, route: name };
    const ask = { credential: { kind: 'known', key }, address, policy, now: now() } as const;
    return verdictOf(await decide(ask, 'foresee'), name);
  }

  return async (req, res) => {
    try {
      const query = new URL(req.url as string, 'http://gateway').searchParams;
      const parsed = questionSchema.safeParse(Object.fromEntries(query));
      if (!parsed.success) throw fieldErrors(parsed.error);
      send(res, 200, await answerTo(parsed.data));
    } catch (error) {
      const known = error instanceof ProblemError ? error : new ProblemError('internal_error');
      const answer = known.toProblem();
      if (answer.status >= 500) log.error({ err: error }, 'What would become of a request cannot be told');
      send(res, answer.status, answer);
    }
  };
}

const PUBLIC: Verdict = {
  admitted: true,
  code: null,
  status: null,
  detail: 'This route takes requests without a key.',
  remedy: null,
  retry_after_s: null,
  route: null,
  access_until: null,
  limits: [],
  quota: null,
};

function verdictOf(decision: Decision, route: string | null): Verdict {
  const limits = decision.windows.map(({ name, limit, remaining, resetSeconds }) => ({
    name,
    limit,
    remaining,
    reset_s: resetSeconds,
  }));
  const quota = decision.quota && {
    per: decision.quota.per,
    limit: decision.quota.limit,
    used: decision.quota.used,
    remaining: decision.quota.remaining,
    resets_at: isoTime(decision.quota.resetsAt),
  };
  if (decision.allowed) {
    const { until } = decision.access;
    return {
      ...PUBLIC,
      detail: 'A request would be admitted.',
      route,
      access_until: isoTime(until),
      limits,
      quota,
    };
  }
  const { code, detail, extensions, retryAfterSeconds } = decision;
  const { status, detail: why, remedy = null } = problem(code, detail, extensions);
  return {
    admitted: false,
    code,
    status,
    detail: why,
    remedy,
    retry_after_s: retryAfterSeconds,
    route,
    access_until: null,
    limits,
    quota,
  };
}

function isoTime(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString();
}

function send(res: ServerResponse, status: number, body: Verdict | Problem): void {
  const type = status === 200 ? 'application/json' : 'application/problem+json';
  res.writeHead(status, { 'Content-Type': type, 'Cache-Control': 'no-store' }).end(JSON.stringify(body));
}
