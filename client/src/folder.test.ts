import { expect, it } from 'vitest';
import { configFolder, productFolder } from './folder.ts';

it.each([
  ['linux', {}, '/home/u/.config/tollgate'],
  ['linux', { XDG_CONFIG_HOME: '/cfg' }, '/cfg/tollgate'],
  ['linux', { XDG_CONFIG_HOME: 'relative' }, '/home/u/.config/tollgate'],
  ['darwin', {}, '/home/u/Library/Application Support/tollgate'],
  ['darwin', { XDG_CONFIG_HOME: '/cfg' }, '/cfg/tollgate'],
  ['win32', { APPDATA: 'C:\\Users\\u\\AppData\\Roaming' }, 'C:\\Users\\u\\AppData\\Roaming\\tollgate'],
  ['win32', {}, '\\home\\u\\AppData\\Roaming\\tollgate'],
] as const)('on %s with %j it is %s', (platform, env, folder) => {
  expect(configFolder(platform, env, '/home/u')).toBe(folder);
});

it('each product of each server has a folder of its own, whatever the address', () => {
  const names = [
    'https://a.example',
    'https://b.example',
    'http://127.0.0.1:8011',
    'https://a.example/shop',
  ].map((url) => productFolder('/x', url, 'tg'));
  expect(names).toEqual([
    '/x/tg@a.example',
    '/x/tg@b.example',
    '/x/tg@127.0.0.1_8011',
    '/x/tg@a.example_shop',
  ]);
});
