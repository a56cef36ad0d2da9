import { createHash, createHmac, timingSafeEqual } from 'node:crypto';

/** Clocks of people's machines are off by this much without anybody meaning it, seconds. */
export const TOLERANCE_S = 300;

/**
 * The latest time that was ever seen with a token, and how far this machine's clock is off. It is bound to token and device,
 * so that a record edited by hand, or copied from elsewhere, is noticed. It does not keep out who rewrites the program.
 */
export type ClockRecord = {
  /** Seconds since the epoch. */
  latest: number;
  /** Seconds to add to this machine's clock, as the server's clock said when the token came; 0 when it was right. */
  offset: number;
  mac: string;
};

/** What a record is bound to. */
export type ClockBinding = { token: string; deviceId: string };

export function clockRecord(latest: number, offset: number, binding: ClockBinding): ClockRecord {
  return { latest, offset, mac: macOf(latest, offset, binding) };
}

/**
 * The record that a new token begins with. What the server signed and said just now is better knowledge than any time seen
 * before, so a clock that was once far ahead is put right here.
 *
 * @param issuedAt of the new token, seconds
 * @param serverTime of the answer that it came in, milliseconds; `null`: not told
 * @param localTime when that came, milliseconds
 */
export function newClockRecord(
  issuedAt: number,
  serverTime: number | null,
  localTime: number,
  binding: ClockBinding,
): ClockRecord {
  const local = Math.floor(localTime / 1000);
  // The header is not signed: believed only beside the time that is.
  const said = serverTime === null ? null : Math.floor(serverTime / 1000);
  const now = said !== null && Math.abs(said - issuedAt) <= TOLERANCE_S ? said : issuedAt;
  const offset = Math.abs(now - local) > TOLERANCE_S ? now - local : 0;
  return clockRecord(Math.max(now, issuedAt), offset, binding);
}

/** Whether the record is as it was written. */
export function isGenuine(record: ClockRecord, binding: ClockBinding): boolean {
  const expected = Buffer.from(macOf(record.latest, record.offset, binding));
  const found = Buffer.from(record.mac);
  return expected.length === found.length && timingSafeEqual(expected, found);
}

function macOf(latest: number, offset: number, { token, deviceId }: ClockBinding): string {
  const key = createHash('sha256').update(`tollgate clock\0${deviceId}\0${token}`).digest();
  return createHmac('sha256', key).update(`${latest} ${offset}`).digest('base64url');
}
