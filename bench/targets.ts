import { ABOVE, ACCURACY_IN_ALL, REFUSED_BELOW } from './accuracy.ts';
import { KEYS } from './arena.ts';
import { PAGES, pageAmong } from './console.ts';
import { nginxAuthRequest, nginxLua, nginxStatic } from './contenders/nginx.ts';
import { express, expressWithVersion3, fastify, undiciPassThrough } from './contenders/node.ts';
import {
  tollgateFastLane,
  tollgateFastLaneWithRedis,
  tollgateNodeHttp,
  tollgateNodeHttpWithRedis,
} from './contenders/tollgate.ts';
import { knownKeys, MANY } from './known-keys.ts';
import type { Figure } from './results.ts';
import { P99 } from './revocation.ts';
import { type Measured, measured, quoted } from './statistics.ts';

/**
 * What Tollgate sets out to reach: a figure of one subject, as a multiple of the same figure of another, or by itself.
 * Without a bound it is only told.
 */
export type Target = {
  bench: string;
  measure: string;
  subject: string;
  /** `null`: the figure itself is what counts. */
  of: string | null;
  atLeast?: number;
  atMost?: number;
};

const RATE = 'requests a second';

function fullLoad(subject: string, of: string, atLeast?: number): Target {
  return { bench: 'gateway', measure: RATE, subject, of, ...(atLeast === undefined ? {} : { atLeast }) };
}

/** The same aim for each of Tollgate's two paths. */
function onBothPaths(target: Omit<Target, 'subject'>): Target[] {
  return [tollgateNodeHttp, tollgateFastLane].map(({ name }) => ({ ...target, subject: name }));
}

export const TARGETS: readonly Target[] = [
  fullLoad(tollgateNodeHttp.name, undiciPassThrough.name, 0.9),
  fullLoad(tollgateNodeHttp.name, nginxAuthRequest.name, 1),
  fullLoad(tollgateNodeHttp.name, fastify.name, 2),
  fullLoad(tollgateNodeHttp.name, expressWithVersion3.name, 6),
  fullLoad(tollgateNodeHttp.name, express.name),
  fullLoad(tollgateFastLane.name, nginxStatic.name, 0.8),
  fullLoad(tollgateFastLane.name, nginxLua.name, 1.1),
  fullLoad(tollgateFastLane.name, nginxAuthRequest.name, 2),
  ...onBothPaths({ bench: 'latency', measure: 'p99 added', of: null, atMost: 1 }),
  ...onBothPaths({ bench: 'connections', measure: 'p99', of: nginxStatic.name, atMost: 2 }),
  ...onBothPaths({ bench: 'bodies', measure: 'from the API', of: nginxStatic.name, atLeast: 0.8 }),
  ...onBothPaths({ bench: 'bodies', measure: 'to the API', of: nginxStatic.name, atLeast: 0.8 }),
  ...onBothPaths({ bench: 'memory', measure: 'second half / first half', of: null, atMost: 1.1 }),
  ...onBothPaths({ bench: 'slow-reader', measure: 'above idle at most', of: null, atMost: 50 }),
  ...[tollgateNodeHttp, tollgateFastLane].flatMap((contender) =>
    [KEYS, MANY].map((inTurn) => ({
      bench: 'known-keys',
      measure: 'CPU a request',
      subject: knownKeys(contender, MANY, inTurn),
      of: knownKeys(contender, KEYS),
      atMost: 1.1,
    })),
  ),
  ...onBothPaths({ bench: 'first-uses', measure: 'all keys served', of: null, atMost: 10 }),
  ...onBothPaths({ bench: 'wrong-keys', measure: 'with never issued, 2000 /s', of: null, atLeast: 0.8 }),
  ...onBothPaths({ bench: 'wrong-keys', measure: 'with bad checksum, 2000 /s', of: null, atLeast: 0.8 }),
  ...onBothPaths({ bench: 'wrong-keys', measure: 'with wrong secret, 2000 /s', of: null, atLeast: 0.8 }),
  ...onBothPaths({ bench: 'wrong-keys', measure: 'with never issued, 10000 /s', of: null, atLeast: 0.8 }),
  ...onBothPaths({ bench: 'wrong-keys', measure: 'with bad checksum, 10000 /s', of: null, atLeast: 0.8 }),
  ...onBothPaths({ bench: 'wrong-keys', measure: 'with wrong secret, 10000 /s', of: null, atLeast: 0.8 }),
  {
    bench: 'redis',
    measure: RATE,
    subject: tollgateNodeHttpWithRedis.name,
    of: tollgateNodeHttp.name,
  },
  {
    bench: 'redis',
    measure: RATE,
    subject: tollgateFastLaneWithRedis.name,
    of: tollgateFastLane.name,
  },
  ...[ABOVE, REFUSED_BELOW].map((measure) => ({
    bench: 'accuracy',
    measure,
    subject: ACCURACY_IN_ALL,
    of: null,
    atMost: 0,
  })),
  ...['SQLite', 'PostgreSQL'].map((subject) => ({
    bench: 'revocation',
    measure: P99,
    subject,
    of: null,
    atMost: 250,
  })),
  ...Object.values(PAGES).map((page) => ({
    bench: 'console',
    measure: 'measured',
    subject: pageAmong(page, MANY),
    of: null,
    atMost: 100,
  })),
];

/** A target beside what was measured. */
export type Judged = {
  target: Target;
  value: number;
  /** Of the ratios of the rounds, the smallest and the largest; `null`: it is no ratio, or there was one round. */
  spread: Pick<Measured, 'min' | 'max'> | null;
  unit: string;
  /** `null`: there is no bound. */
  met: boolean | null;
};

/** The targets of a benchmark whose figures are there. */
export function judged(bench: string, figures: readonly Figure[]): Judged[] {
  const figureOf = (subject: string, measure: string) =>
    figures.find((each) => each.subject === subject && each.measure === measure);
  return TARGETS.filter((target) => target.bench === bench).flatMap((target) => {
    const own = figureOf(target.subject, target.measure);
    const other = target.of === null ? null : figureOf(target.of, target.measure);
    if (own === undefined || other === undefined) return [];
    const { median: value, min, max, runs } = other === null ? measured(own.runs) : ratio(own, other);
    const bounded = target.atLeast !== undefined || target.atMost !== undefined;
    const met = !bounded
      ? null
      : value >= (target.atLeast ?? -Infinity) && value <= (target.atMost ?? Infinity);
    const spread = other !== null && runs > 1 ? { min, max } : null;
    return [{ target, value, spread, unit: other === null ? own.unit : '', met }];
  });
}

/**
 * One figure as a multiple of another: round by round where they were measured in the same rounds, as two that ran soon after each
 * other found the machine more alike than the medians of half an hour.
 */
function ratio(own: Figure, other: Figure): Measured {
  if (own.runs.length === other.runs.length)
    return measured(own.runs.map((run, round) => run / (other.runs[round] as number)));
  return measured([measured(own.runs).median / measured(other.runs).median]);
}

/** What a target asks for, in words. */
export function targetText({ atLeast, atMost }: Target, unit: string): string {
  if (atLeast === undefined && atMost === undefined) return '';
  const [word, value] = atLeast === undefined ? ['at most', atMost] : ['at least', atLeast];
  return `${word} ${value}${unit && ` ${unit}`}`;
}

/** The targets of a benchmark as lines for a terminal. */
export function targetLines(bench: string, figures: readonly Figure[]): string[] {
  return judged(bench, figures).map(({ target, value, spread, unit, met }) => {
    const { subject, of, measure } = target;
    const what = of === null ? `${subject}: ${measure}` : `${subject} / ${of}: ${measure}`;
    const verdict = met === null ? '' : met ? 'met' : 'MISSED';
    const aim = targetText(target, unit);
    const between = spread === null ? '' : `, ${quoted(spread.min)} to ${quoted(spread.max)}`;
    return `  ${verdict.padEnd(6)}  ${what}: ${quoted(value)}${unit && ` ${unit}`}${between}${aim && ` (${aim})`}`;
  });
}
