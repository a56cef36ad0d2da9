import type { LimitsOverride } from '../shared/plan.ts';
import { typedWindows } from '../shared/windows.ts';
import { overrideOf } from './key-facts.ts';
import { keyIn } from './keys.ts';
import type { KeyTable } from './schema.ts';
import { type By, inOneStep, type Step, type Store } from './store.ts';

// What the seller decides about a key belongs to its rotation chain: each key of it that is not revoked has it, and each that
// a rotation makes gets it. So it is the same whichever of them is used, and nothing that a buyer can do takes it off.

/**
 * Suspends a key and those it was rotated from and to, everywhere within a second, until {@link resumeKey}. Nothing else
 * lifts it.
 *
 * @param input.note why, for the seller
 */
export async function suspendKey(
  store: Store,
  input: By & { id: string; note: string | null },
): Promise<'suspended' | 'already_suspended' | 'revoked' | 'not_found'> {
  const { id, note, ...by } = input;
  return inOneStep(store, async (step) => {
    const key = await keyIn(step, id);
    if (!key) return 'not_found';
    if (key.revoked_at !== null) return 'revoked';
    if (key.suspended_at !== null) return 'already_suspended';
    const set = { suspended_at: step.now, suspended_note: note };
    await changeChain(step, key, set, { ...by, action: 'key.suspended', details: { note } });
    return 'suspended';
  });
}

/** Lifts what {@link suspendKey} did, everywhere within a second. The key then may do what it could without it. */
export async function resumeKey(
  store: Store,
  input: By & { id: string },
): Promise<'resumed' | 'not_suspended' | 'revoked' | 'not_found'> {
  const { id, ...by } = input;
  return inOneStep(store, async (step) => {
    const key = await keyIn(step, id);
    if (!key) return 'not_found';
    if (key.revoked_at !== null) return 'revoked';
    if (key.suspended_at === null) return 'not_suspended';
    const details = { since: key.suspended_at, note: key.suspended_note };
    const set = { suspended_at: null, suspended_note: null };
    await changeChain(step, key, set, { ...by, action: 'key.resumed', details });
    return 'resumed';
  });
}

/**
 * Gives a key, and those it was rotated from and to, limits that count instead of the plan's, everywhere within a second. They
 * stay with renewals and changes of plan.
 *
 * @param input.override valid ones; `null`: the plan's again
 */
export async function overrideLimits(
  store: Store,
  input: By & { id: string; override: LimitsOverride | null },
): Promise<'overridden' | 'revoked' | 'not_found'> {
  const { id, override, ...by } = input;
  return inOneStep(store, async (step) => {
    const key = await keyIn(step, id);
    if (!key) return 'not_found';
    if (key.revoked_at !== null) return 'revoked';
    const { limits = null, quota = null } = override ?? {};
    const set = { override_limits: limits && JSON.stringify(limits), override_quota: quota };
    const details = { from: textOf(overrideOf(key)), to: textOf(overrideOf(set)) };
    await changeChain(step, key, set, { ...by, action: 'key.limits_overridden', details });
    return 'overridden';
  });
}

/** Writes the same to every key of a chain that is not revoked. */
async function changeChain(
  step: Step,
  { root_id }: KeyTable,
  set: Partial<KeyTable>,
  entry: By & { action: string; details: Record<string, unknown> },
): Promise<void> {
  const changed = await step.trx
    .updateTable('keys')
    .set(set)
    .where('root_id', '=', root_id)
    .where('revoked_at', 'is', null)
    .returning('id')
    .execute();
  const ids = changed.map(({ id }) => id);
  for (const keyId of ids) await step.audit({ ...entry, keyId });
  await step.changed(ids);
}

/** Limits as the audit log has them. */
function textOf(override: LimitsOverride | null) {
  if (override === null) return "the plan's";
  const { limits, quota } = override;
  return {
    ...(limits && { limits: typedWindows(limits) }),
    ...(quota !== null && { quota }),
  };
}
