import { randomUUID } from 'node:crypto';
import { planAt } from './gateway-call.ts';
import { answerText, request } from './request.ts';
import { ok, type Step, skipped, wrong } from './step.ts';

export const licence: Step = {
  id: 'licence',
  title: 'A licence is activated',
  needed: false,
  plan: ({ config, goods }) =>
    [goods.first, goods.better].some((good) => good?.plan.licence)
      ? `Activate a device at ${config.publicLicensingUrl}, and give its place back.`
      : 'Nothing: neither plan grants a licence.',
  async run(rehearsal, bought) {
    const { config } = rehearsal;
    const plan = config.plans.plan((await planAt(rehearsal, bought)) ?? '');
    if (!plan?.licence) return skipped(`The plan ${plan?.id ?? 'of the key'} grants no licence.`);
    const { key } = bought;
    const id = randomUUID();
    const ask = (name: string, json: object) =>
      request(`${config.publicLicensingUrl}/licences/${name}`, { json: { key, ...json } });
    const activated = await ask('activate', { device: { id, name: 'Rehearsal' } });
    if (activated.status !== 200 || typeof activated.body.token !== 'string') {
      return wrong(
        `POST /licences/activate answered ${answerText(activated)}.`,
        'Have PUBLIC_LICENSING_URL lead to billing, or to licensing where it runs alone.',
      );
    }
    const released = await ask('deactivate', { device_id: id });
    return released.status === 200
      ? ok('A device was activated, got its token, and gave its place back.')
      : wrong(`POST /licences/deactivate answered ${answerText(released)}.`, 'See the log of licensing.');
  },
};
