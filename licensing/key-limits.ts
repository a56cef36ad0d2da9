import type { KeyFacts } from '../keystore/keystore.ts';
import { type PlanCatalogue, planFor } from '../shared/plans.ts';
import { RateLimit } from '../shared/rate-limit.ts';
import type { Licence } from './licence.ts';

/** What may be asked in a minute: for one device of a key, and for all of them. */
const PER_DEVICE_A_MINUTE = 30;
const PER_KEY_A_MINUTE = 600;
/** A seat that is free again after five minutes says once or twice a minute that it is used, and refreshes: that several times. */
const PER_PLACE_A_MINUTE = 6;

/** Devices that get a place in a day. */
const PLACES_A_DAY = 20;
const PER_PLACE_A_DAY = 10;
const DAY_S = 86_400;

/** Limits how often programs ask about a key. */
export class KeyLimits {
  readonly #plans: Pick<PlanCatalogue, 'plan'>;
  readonly #perDevice = new RateLimit(PER_DEVICE_A_MINUTE, 60, 'Too many requests for this device.');
  readonly #reading = new RateLimit(PER_KEY_A_MINUTE, 60, 'Too many requests for this key.');
  /** By how often a key may ask: one for each number of places that is sold. */
  readonly #perKey = new Map<number, RateLimit>();
  readonly #places = new Map<number, RateLimit>();

  constructor(plans: Pick<PlanCatalogue, 'plan'>) {
    this.#plans = plans;
  }

  /**
   * Counts once. By the key and not by its chain: who found an old one cannot use up what the new one may ask. Nor can a device
   * that asks in a loop use up what the others may: what it is refused counts for the device alone.
   *
   * @throws ProblemError `too_many_requests`
   */
  async spend(key: Pick<KeyFacts, 'id' | 'planId' | 'quantity'>, deviceId: string | null): Promise<void> {
    // The key first all the same: who names another device each time has no more of them kept in memory than a key may ask.
    const ofKey = this.#of(key);
    await ofKey.spend(key.id);
    if (deviceId === null) return;
    try {
      await this.#perDevice.spend(`${key.id} ${deviceId}`);
    } catch (error) {
      await ofKey.refund(key.id);
      throw error;
    }
  }

  /** Counts once what changes nothing: a holder whose program asks too much still sees which devices do. */
  spendReading({ id }: Pick<KeyFacts, 'id'>): Promise<void> {
    return this.#reading.spend(id);
  }

  /**
   * Counts a device that gets a place: enough for a change of all devices now and then, too few to pass one place round. What
   * is refused does not count: otherwise many at once, whose counts are taken back, would leave none for the day.
   *
   * @returns takes the count back
   * @throws ProblemError `too_many_requests`
   */
  async spendPlace({ key, terms }: Pick<Licence, 'key' | 'terms'>): Promise<() => Promise<void>> {
    const times = PLACES_A_DAY + PER_PLACE_A_DAY * terms.devices;
    const limit =
      this.#places.get(times) ?? new RateLimit(times, DAY_S, 'Too many devices were activated today.');
    this.#places.set(times, limit);
    const takeBack = () => limit.refund(key.rootId);
    try {
      await limit.spend(key.rootId);
    } catch (error) {
      await takeBack();
      throw error;
    }
    return takeBack;
  }

  #of({ planId, quantity }: Pick<KeyFacts, 'planId' | 'quantity'>): RateLimit {
    const plan = this.#plans.plan(planId);
    const places = (plan && planFor(plan, quantity).licence?.devices) ?? 0;
    const times = Math.max(PER_KEY_A_MINUTE, places * PER_PLACE_A_MINUTE);
    const limit = this.#perKey.get(times) ?? new RateLimit(times, 60, 'Too many requests for this key.');
    this.#perKey.set(times, limit);
    return limit;
  }
}
