import type { Mode } from '../shared/keys.ts';
import type { EventTable } from './schema.ts';

/** What a mail is about. The inbox keeps them like Stripe's events: retried, visible, replayable. */
export type MailKind = 'receipt' | 'key_rotated' | 'payment_failed' | 'recovery' | 'trial_code';

/** What the type of a mail in the event inbox begins with. */
export const MAIL_TYPE = 'tollgate.mail.';

/**
 * A mail to send, as a row of the event inbox.
 *
 * @param subject what it is about, as `<kind>:<id>`
 * @param occasion tells this mail from others of its kind and subject: the same occasion is mailed once
 */
export function mailEvent(
  kind: MailKind,
  subject: string,
  occasion: string,
  mode: Mode,
  now: number,
): EventTable {
  return {
    id: `mail_${kind}_${occasion}`,
    type: MAIL_TYPE + kind,
    mode,
    api_version: null,
    object_id: subject,
    group_key: subject,
    payload: '{}',
    status: 'pending',
    outcome: null,
    attempts: 0,
    next_attempt_at: now,
    leased_by: null,
    leased_until: null,
    error: null,
    created_at: now,
    received_at: now,
    processed_at: null,
    request_id: null,
  };
}
