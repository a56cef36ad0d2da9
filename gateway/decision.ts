import type { KeyFacts } from '../keystore/keystore.ts';
import type { Access } from '../shared/access.ts';
import type { Plan } from '../shared/plans.ts';
import type { ProblemCode } from '../shared/problems.ts';
import type { WindowState } from './limits.ts';
import type { QuotaState } from './quota.ts';

/** The request may go on, and was counted if it was asked to be. */
export type Allowed = {
  allowed: true;
  key: KeyFacts;
  plan: Plan;
  access: Extract<Access, { state: 'active' }>;
  windows: readonly WindowState[];
  quota: QuotaState | null;
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
