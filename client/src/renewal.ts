import { clockRecord, newClockRecord } from './clock.ts';
import type { Device } from './device.ts';
import { isEntitled } from './entitlements.ts';
import { TollgateError } from './error.ts';
import type { KeptEntitlement, Licence } from './licence-file.ts';
import type { Activation } from './licensing.ts';
import { isFresh } from './published.ts';
import type { PublishedKeys, SigningKeys } from './signing-keys.ts';
import { type Ended, type Standing, standingOf } from './standing.ts';
import { readToken } from './token.ts';

/** After nobody could be asked: while what is here counts there is no hurry, and no need to hold up whoever waits. */
const PAUSE_WHEN_ENTITLED_MS = 15 * 60_000;
const PAUSE_WHEN_NOT_MS = 60_000;
/** What may come back is looked at so often. */
const PAUSE_WHEN_ENDED_MS = 3_600_000;
/** No pause is longer; a time further off was written by a clock that was wrong. */
export const LONGEST_PAUSE_MS = 24 * 3_600_000;
/** Nor is one that comes of activating: who may not activate for the rest of the day may still renew. */
export const LONGEST_ACTIVATION_PAUSE_MS = 3_600_000;
/** How old the key set may be before it is asked for again. */
const KEYS_AGE_MS = 24 * 3_600_000;
/** Times seen are written down so often. */
const REMEMBER_EVERY_S = 60;

const OVER_FOR_GOOD = ['invalid_key', 'revoked_key', 'expired_key', 'subscription_ended', 'requests_used_up'];

/** What is to be asked of the server of its own accord. */
export type Due = 'entitlement' | 'signing keys' | null;

/** Whether it is time to ask, and for what. @param now milliseconds since the epoch */
export function dueOf(
  licence: Licence,
  standing: Standing,
  published: PublishedKeys | null,
  now: number,
): Due {
  const { key, entitlement, ended, askAgainAt } = licence;
  if (key === null || entitlement === null) return null;
  if (now < askAgainAt && askAgainAt - now <= LONGEST_PAUSE_MS) return null;
  if (ended !== null) return comesBack(ended, licence) ? 'entitlement' : null;
  if (!isEntitled(standing.code) || now >= entitlement.refreshAt) return 'entitlement';
  return published === null || !isFresh(published, KEYS_AGE_MS, now) ? 'signing keys' : null;
}

/**
 * Whether the server said by this that it does not go on with the licence; otherwise nobody knows. From an address that the
 * key may not be used from, the server cannot be asked, and the licence is as good as it was.
 */
export function isRefusal(error: TollgateError): boolean {
  const { status, code } = error;
  if (code === 'address_not_allowed') return false;
  if (code === 'device_not_active' || code === 'device_limit') return true;
  return status === 401 || status === 402 || status === 403;
}

/** What a refusal is kept as. */
export function endedBy({ code, message, remedy }: TollgateError, now: number): Ended {
  return { code, detail: message, remedy, at: now };
}

/** Whether the server may say otherwise by itself. A device whose place is fixed was released by somebody, who meant it. */
function comesBack({ code }: Ended, licence: Licence): boolean {
  if (code === 'device_not_active') return isFloating(licence);
  return !isOver(code);
}

/** Whether the device has a seat only while it is used. */
export function isFloating({ entitlement }: Licence): boolean {
  return entitlement !== null && entitlement.heartbeatS !== null;
}

/** Whether nothing brings a licence back that the server refused with this code: only another purchase does. */
export function isOver(code: string): boolean {
  return OVER_FOR_GOOD.includes(code);
}

/** From when on to ask again of one's own accord. @param error what came of asking */
export function askAgainAt(
  error: TollgateError,
  entitled: boolean,
  now: number,
  longestPauseMs = LONGEST_PAUSE_MS,
): number {
  // A place may be free at any time, and whoever waits for one waits at their desk.
  if (isRefusal(error) && error.code !== 'device_limit') return now + PAUSE_WHEN_ENDED_MS;
  const pause = entitled ? PAUSE_WHEN_ENTITLED_MS : PAUSE_WHEN_NOT_MS;
  return now + Math.min(longestPauseMs, Math.max(pause, (error.retryAfterSeconds ?? 0) * 1000));
}

/**
 * What an answer of the server is kept as, once it is checked like any other token: what would not count here does not take
 * the place of what does.
 *
 * @throws TollgateError `unexpected_answer`
 */
export function keptEntitlement(
  activation: Activation,
  device: Device,
  product: string,
  pinned: SigningKeys | null,
  published: PublishedKeys | null,
  receivedAt: number,
): KeptEntitlement {
  const { token, heartbeatS, refreshAfterS, serverTime } = activation;
  const binding = { token, deviceId: device.id };
  const evidence = { token, ended: null, product, deviceId: device.id, pinned, published };
  let issuedAt = 0;
  let lifeS = 0;
  try {
    const { claims } = readToken(token);
    issuedAt = claims.issuedAt;
    lifeS = claims.expiresAt - claims.issuedAt;
  } catch {
    // Said below.
  }
  const clock = newClockRecord(issuedAt, serverTime, receivedAt, binding);
  // When the set was asked for does not matter yet: it is the one that has to know the key.
  const { code } = standingOf({
    ...evidence,
    clock,
    tokenReceivedAt: published?.fetchedAt ?? 0,
    now: receivedAt,
  });
  if (!isEntitled(code)) {
    throw new TollgateError(
      'unexpected_answer',
      `The entitlement that the server sent does not count here (${code}).`,
      code === 'signing_key_unknown' || code === 'signing_key_revoked'
        ? 'Update this program: it does not know the key that the seller signs with now.'
        : 'Check that server and product are the right ones, or contact the seller.',
    );
  }
  return {
    token,
    receivedAt,
    refreshAt: receivedAt + Math.min(refreshAfterS, Math.floor(lifeS / 2)) * 1000,
    heartbeatS,
    clock,
  };
}

/** What the token is worth. @param now this machine's clock, milliseconds since the epoch */
export function standingHere(
  { entitlement, ended }: Licence & { entitlement: KeptEntitlement },
  device: Device,
  product: string,
  pinned: SigningKeys | null,
  published: PublishedKeys | null,
  now: number,
): Standing {
  const { token, receivedAt, clock } = entitlement;
  return standingOf({
    token,
    tokenReceivedAt: receivedAt,
    clock,
    ended,
    product,
    deviceId: device.id,
    pinned,
    published,
    now,
  });
}

/** The licence with the present time written down as seen; the same object when that is not needed. */
export function remembering(licence: Licence, token: string, deviceId: string, nowS: number): Licence {
  const { entitlement } = licence;
  if (entitlement === null || entitlement.token !== token || entitlement.clock === null) return licence;
  const { latest, offset } = entitlement.clock;
  if (nowS < latest + REMEMBER_EVERY_S) return licence;
  return {
    ...licence,
    entitlement: { ...entitlement, clock: clockRecord(nowS, offset, { token, deviceId }) },
  };
}
