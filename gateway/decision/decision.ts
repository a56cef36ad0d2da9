import type { KeyFacts } from '../../keystore/keystore.ts';
import type { Access } from '../../shared/access.ts';
import type { Plan } from '../../shared/plans.ts';
import type { ProblemCode } from '../../shared/problems.ts';
import type { RoutePolicy } from '../routes/route-spec.ts';
import type { Key } from './key.ts';
import type { WindowState } from './limits.ts';
import type { QuotaState } from './quota.ts';
import type { Counters } from './spending.ts';

/** The request may go on, and was counted if it was asked to be. */
export type Allowed = {
  allowed: true;
  key: Key;
  plan: Plan;
  access: Extract<Access, { state: 'active' }>;
  policy: RoutePolicy;
  windows: readonly WindowState[];
  quota: QuotaState | null;
  /** How many requests it was counted as. */
  cost: number;
  /** When, milliseconds since the epoch. */
  countedAt: number;
  /** Whether that is what it costs, and not an estimate. */
  settled: boolean;
  /** Whether it has a place among the requests that the route allows its key at a time. */
  underWay: boolean;
  /** What it was counted in. */
  counters: Counters;
};

/** The request may not go on. */
export type Refused = {
  allowed: false;
  code: ProblemCode;
  /** This occurrence in one sentence; the problem's title when omitted. Never holds what was presented. */
  detail: string | undefined;
  extensions: Record<string, unknown>;
  /** When to come again; `null` when waiting does not help. */
  retryAfterSeconds: number | null;
  /** The key, once it is known whose it is. */
  key: KeyFacts | null;
  windows: readonly WindowState[];
  quota: QuotaState | null;
};

export type Decision = Allowed | Refused;

/** A refusal with what is known of it. */
export function refused(code: ProblemCode, more: Partial<Omit<Refused, 'allowed' | 'code'>> = {}): Refused {
  return {
    allowed: false,
    code,
    detail: undefined,
    extensions: {},
    retryAfterSeconds: null,
    key: null,
    windows: [],
    quota: null,
    ...more,
  };
}
