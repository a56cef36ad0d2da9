import express, { type Router } from 'express';
import { z } from 'zod';
import { onlyBy } from '../shared/methods.ts';
import { planFor } from '../shared/plans.ts';
import {
  deviceJson,
  deviceLimit,
  deviceNotActive,
  entitlementJson,
  heartbeatSeconds,
  licenceJson,
  placesJson,
} from './answers.ts';
import type { Licensing } from './context.ts';
import { type Licence, licenceOf } from './licence.ts';
import { deviceIdSchema, deviceSchema, keySchema, questions } from './question.ts';

const key = keySchema.optional();
const onDevice = z.strictObject({ key, device_id: deviceIdSchema });

/**
 * What programs ask about the licence they run under, with the key in the body or a header: `POST /licences/activate`,
 * `refresh`, `validate`, `deactivate`, `heartbeat`, and `GET /licences/devices`.
 */
export function licenceRoutes(licensing: Licensing): Router {
  const { keystore, plans, tokens } = licensing;
  const router = express.Router();
  const question = questions(licensing);

  router.post(
    '/licences/activate',
    question(
      'activate',
      z.strictObject({ key, device: deviceSchema }),
      (body) => body.device.id,
      async ({ key, body, actor }) => {
        const licence = licenceOf(key, plans, licensing.now());
        const { id, name = null } = body.device;
        const takeBack = await countPlace(licensing, licence, id);
        const { outcome, device, devices } = await keystore
          .activateDevice({
            rootId: key.rootId,
            keyId: key.id,
            device: { id, name },
            places: licence.terms,
            actor,
          })
          .catch(async (error) => {
            // What goes wrong at the server must not use up what the licence has for the day.
            await takeBack();
            throw error;
          });
        if (outcome !== 'activated') await takeBack();
        if (!device) throw deviceLimit(licence, devices);
        return entitlementJson(
          licence,
          await tokens.issue(licence, device, licensing.now()),
          device,
          devices,
        );
      },
    ),
  );

  router.post(
    '/licences/refresh',
    question(
      'refresh',
      onDevice,
      (body) => body.device_id,
      async ({ key, body }) => {
        const licence = licenceOf(key, plans, licensing.now());
        const { device, devices } = await seen(licensing, licence, body.device_id);
        return entitlementJson(
          licence,
          await tokens.issue(licence, device, licensing.now()),
          device,
          devices,
        );
      },
    ),
  );

  router.post(
    '/licences/validate',
    question(
      'validate',
      z.strictObject({ key, device_id: deviceIdSchema.optional() }),
      (body) => body.device_id,
      async ({ key, body }) => {
        const licence = licenceOf(key, plans, licensing.now());
        const devices = await keystore.listDevices({ rootId: key.rootId, places: licence.terms });
        const place = devices.findIndex((each) => each.id === body.device_id);
        const device = devices[place];
        if (body.device_id !== undefined) {
          if (!device) throw deviceNotActive();
          if (place >= licence.terms.devices) throw deviceLimit(licence, devices);
        }
        return {
          valid: true,
          code: 'valid',
          detail: 'This licence is good.',
          licence: licenceJson(licence),
          device: device ? deviceJson(device) : null,
          devices: placesJson(licence, devices),
        };
      },
      ({ code, detail, remedy }) => ({
        valid: false,
        code,
        detail,
        remedy,
        licence: null,
        device: null,
        devices: null,
      }),
    ),
  );

  router.post(
    '/licences/deactivate',
    question(
      'deactivate',
      onDevice,
      (body) => body.device_id,
      async ({ key, body, actor }) => {
        // Also of a licence that is over: giving a place back needs no right to it. But whoever found an old key that was
        // replaced has no say over the devices of the new one.
        if (key.replacedBy !== null) licenceOf(key, plans, licensing.now());
        await keystore.releaseDevice({ rootId: key.rootId, keyId: key.id, deviceId: body.device_id, actor });
        const plan = plans.plan(key.planId);
        const terms = plan ? planFor(plan, key.quantity).licence : null;
        const devices = await keystore.listDevices({
          rootId: key.rootId,
          places: terms ?? { devices: 0, freeAfterMs: null },
        });
        return { deactivated: true, devices: { used: devices.length, limit: terms?.devices ?? 0 } };
      },
    ),
  );

  router.post(
    '/licences/heartbeat',
    question(
      'heartbeat',
      onDevice,
      (body) => body.device_id,
      async ({ key, body }) => {
        const licence = licenceOf(key, plans, licensing.now());
        const { devices } = await seen(licensing, licence, body.device_id);
        return { heartbeat_s: heartbeatSeconds(licence), devices: placesJson(licence, devices) };
      },
    ),
  );

  router.get('/licences/devices', async (request, response) => {
    const holder = await licensing.holders.identify(request, undefined, await licensing.mode());
    await licensing.limits.spendReading(holder);
    const licence = licenceOf(holder, plans, licensing.now());
    const devices = await keystore.listDevices({ rootId: holder.rootId, places: licence.terms });
    response.json({ devices: devices.map(deviceJson), limit: licence.terms.devices });
  });

  for (const name of ['activate', 'refresh', 'validate', 'deactivate', 'heartbeat'])
    router.all(`/licences/${name}`, onlyBy('POST'));
  router.all('/licences/devices', onlyBy('GET'));
  return router;
}

/**
 * Counts the place that a device may get. Where no more are given today, one that has its place goes on all the same.
 *
 * @returns takes the count back
 * @throws ProblemError `too_many_requests`
 */
async function countPlace(
  { limits, keystore }: Licensing,
  licence: Licence,
  deviceId: string,
): Promise<() => Promise<void>> {
  try {
    return await limits.spendPlace(licence);
  } catch (error) {
    const { key, terms } = licence;
    const devices = await keystore.listDevices({ rootId: key.rootId, places: terms });
    const holders = devices.slice(0, terms.devices);
    if (!holders.some(({ id }) => id === deviceId)) throw error;
    return async () => {};
  }
}

/** Notes a device's sign of life. @throws ProblemError `device_not_active`, `device_limit` when it has no place */
async function seen({ keystore }: Licensing, licence: Licence, deviceId: string) {
  const { outcome, device, devices } = await keystore.seeDevice({
    rootId: licence.key.rootId,
    deviceId,
    places: licence.terms,
  });
  if (outcome === 'device_limit') throw deviceLimit(licence, devices);
  if (outcome === 'device_not_active' || !device) throw deviceNotActive();
  return { device, devices };
}
