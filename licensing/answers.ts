import type { Device } from '../keystore/keystore.ts';
import { ProblemError } from '../shared/problems.ts';
import type { IssuedToken } from './entitlement-token.ts';
import type { Licence } from './licence.ts';

/** A device gives three signs of life in the time after which its place would be free. */
const HEARTBEATS = 3;
/** Also of a token that ends at once with its licence. */
const SOONEST_REFRESH_S = 60;

/** A licence as programs see it. */
export function licenceJson({ key, plan, features, until }: Licence) {
  return {
    key_id: key.id,
    plan: plan.id,
    plan_name: plan.name,
    mode: key.mode,
    state: 'active',
    features,
    until: until === null ? null : timeJson(until),
  };
}

/** A device as programs see it. */
export function deviceJson({ id, name, activatedAt, lastSeenAt }: Device) {
  return { id, name, activated_at: timeJson(activatedAt), last_seen_at: timeJson(lastSeenAt) };
}

/** What a program gets to work with: the token, and what it says. */
export function entitlementJson(
  licence: Licence,
  issued: IssuedToken,
  device: Device,
  devices: readonly Device[],
) {
  return {
    token: issued.token,
    expires_at: timeJson(issued.expiresAt),
    grace_until: timeJson(issued.graceUntil),
    refresh_after_s: Math.max(SOONEST_REFRESH_S, Math.floor((issued.expiresAt - issued.issuedAt) / 2000)),
    licence: licenceJson(licence),
    device: deviceJson(device),
    devices: placesJson(licence, devices),
    heartbeat_s: heartbeatSeconds(licence),
  };
}

export function placesJson({ terms }: Pick<Licence, 'terms'>, devices: readonly Device[]) {
  return { used: devices.length, limit: terms.devices };
}

/** How often at least a device has to give a sign of life to keep its place; `null`: it keeps it. */
export function heartbeatSeconds({ terms }: Pick<Licence, 'terms'>): number | null {
  return terms.freeAfterMs === null ? null : Math.floor(terms.freeAfterMs / 1000 / HEARTBEATS);
}

/** All places are taken. */
export function deviceLimit({ plan, terms }: Licence, devices: readonly Device[]): ProblemError {
  const places = terms.devices === 1 ? 'one device' : `${terms.devices} devices`;
  return new ProblemError(
    'device_limit',
    `The plan ${plan.name} works on ${places} at a time, and ${devices.length === 1 ? 'one is' : `${devices.length} are`} active.`,
    {
      limit: terms.devices,
      devices: devices.map(deviceJson),
    },
  );
}

/** The device has no place. */
export function deviceNotActive(): ProblemError {
  return new ProblemError('device_not_active');
}

export function timeJson(ms: number): string {
  return new Date(ms).toISOString();
}
