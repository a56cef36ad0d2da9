import type { Catalogue } from './catalogue.ts';
import type { Licence } from './licence-file.ts';
import type { Features, Mode } from './shape.ts';
import type { Ended, EntitlementCode, Standing } from './standing.ts';
import { timeText } from './time-text.ts';

/** What this program may do here and now. */
export type Entitlements = {
  /** Whether there is a licence that counts: `active` or `grace`. */
  entitled: boolean;
  code: EntitlementCode;
  /** The same in a sentence. */
  detail: string;
  /** What a person can do about it; `null`: nothing needs to be done. */
  remedy: string | null;
  /** The plan whose features count: the licence's while entitled, else the free one; `null`: none is known. */
  plan: string | null;
  planName: string | null;
  /** Features that count. */
  features: Features;
  /** What the genuine token on this device says, also when it is over; `null`: there is none. */
  licence: {
    keyId: string;
    plan: string;
    planName: string;
    mode: Mode;
    issuedAt: Date;
    expiresAt: Date;
    graceUntil: Date;
    /** Has to be heard of regularly: see `holdSeat()`. */
    floating: boolean;
  } | null;
  /** The server refused to go on with the licence, and why. What it gave out before holds to its end, without grace. */
  ended: Ended | null;
};

/** Whether a licence with this code counts. */
export function isEntitled(code: EntitlementCode): boolean {
  return code === 'active' || code === 'grace';
}

/** With a licence on this machine. @param demo what somebody without one has; `null`: not known */
export function entitlementsOf(
  licence: Licence,
  standing: Standing | null,
  demo: Catalogue | null,
): Entitlements {
  const code = standing?.code ?? 'not_activated';
  const claims = standing?.claims ?? null;
  const entitled = isEntitled(code);
  const { detail, remedy } = SAID[code]({ licence, standing });
  const counts = entitled && claims !== null;
  return {
    entitled,
    code,
    detail,
    remedy,
    plan: counts ? claims.plan : (demo?.plan?.id ?? null),
    planName: counts ? claims.planName : (demo?.plan?.name ?? null),
    features: counts ? claims.features : (demo?.features ?? nothing()),
    licence: claims && {
      keyId: claims.keyId,
      plan: claims.plan,
      planName: claims.planName,
      mode: claims.mode,
      issuedAt: new Date(claims.issuedAt * 1000),
      expiresAt: new Date(claims.expiresAt * 1000),
      graceUntil: new Date(claims.graceUntil * 1000),
      floating: licence.entitlement?.heartbeatS != null,
    },
    ended: licence.ended,
  };
}

/** Without one. */
export function demoEntitlements(demo: Catalogue | null): Entitlements {
  return {
    entitled: false,
    code: demo === null ? 'no_licence' : 'demo',
    detail:
      demo === null
        ? 'There is no licence on this device.'
        : `There is no licence on this device; what ${demo.plan?.name ?? 'the free plan'} includes is free.`,
    remedy: 'Buy a plan (tollgate buy --plan ...) or log in with a key (tollgate login --key -).',
    plan: demo?.plan?.id ?? null,
    planName: demo?.plan?.name ?? null,
    features: demo?.features ?? nothing(),
    licence: null,
    ended: null,
  };
}

/** Without a prototype, as features always are: `toString` is none. */
function nothing(): Features {
  return Object.create(null);
}

type Facts = { licence: Licence; standing: Standing | null };
type Said = { detail: string; remedy: string | null };

const REFRESH = 'Connect to the internet and run: tollgate entitlements refresh';

/** What is said of each code. */
const SAID: Record<Exclude<EntitlementCode, 'demo' | 'no_licence'>, (facts: Facts) => Said> = {
  active: (facts) => {
    const { licence } = facts;
    if (licence.ended === null) {
      return { detail: `${planName(facts)} is active on this device until ${expiry(facts)}.`, remedy: null };
    }
    return {
      detail: `${planName(facts)} ends on this device at ${expiry(facts)}. ${licence.ended.detail}`,
      remedy: licence.ended.remedy,
    };
  },
  grace: (facts) => ({
    detail: `${planName(facts)} could not be renewed since ${expiry(facts)}, and goes on until ${grace(facts)}.`,
    remedy: `Connect to the internet before ${grace(facts)}; it is renewed by itself.`,
  }),
  expired: (facts) => ({
    detail: `${planName(facts)} could not be renewed since ${expiry(facts)}, and its grace ended at ${grace(facts)}.`,
    remedy: REFRESH,
  }),
  ended: ({ licence }) => ({
    detail: licence.ended?.detail ?? 'The licence has ended.',
    remedy: licence.ended?.remedy ?? null,
  }),
  clock_moved_back: () => ({
    detail:
      "This machine's clock is behind a time that was seen here before, or the record of that was changed.",
    remedy: `Set the clock right. ${REFRESH}`,
  }),
  token_invalid: () => ({
    detail: 'The entitlement on this device was changed, or is none: its signature does not hold.',
    remedy: REFRESH,
  }),
  wrong_device: () => ({
    detail: 'The entitlement was given to another device.',
    remedy: 'Activate this one: tollgate entitlements refresh',
  }),
  wrong_product: () => ({
    detail: 'The entitlement is for another product.',
    remedy: 'Log in with a key of this product: tollgate login --key -',
  }),
  signing_key_revoked: () => ({
    detail: 'The seller has taken back the key that signed the entitlement.',
    remedy: REFRESH,
  }),
  signing_key_unknown: () => ({
    detail: 'The key that signed the entitlement is not known here, so it cannot be checked.',
    remedy: `${REFRESH}. If that does not help, update the program.`,
  }),
  not_activated: ({ licence: { ended } }) => ({
    detail: ended?.detail ?? 'There is a key, and this device is not activated.',
    remedy: ended === null ? 'Activate it: tollgate entitlements refresh' : ended.remedy,
  }),
};

function planName({ standing }: Facts): string {
  return standing?.claims?.planName ?? 'The licence';
}

function expiry({ standing }: Facts): string {
  return timeText((standing?.claims?.expiresAt ?? 0) * 1000);
}

function grace({ standing }: Facts): string {
  return timeText((standing?.claims?.graceUntil ?? 0) * 1000);
}
