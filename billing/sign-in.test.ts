import express from 'express';
import request from 'supertest';
import { expect, it } from 'vitest';
import { SERVER_SECRET } from '../test/keystores.ts';
import { SignIn } from './sign-in.ts';

const KEY_ID = 'abcdefGHI123';

function appWith(publicBillingUrl: string, serverSecret = SERVER_SECRET) {
  const signIn = new SignIn({ serverSecret, publicBillingUrl });
  const app = express();
  app.post('/billing/in', (_request, response) => {
    signIn.start(response, KEY_ID);
    response.end();
  });
  app.get('/billing/who', (incoming, response) => void response.json(signIn.keyId(incoming) ?? null));
  return app;
}
async function cookieOf(app: express.Express): Promise<string> {
  const { headers } = await request(app).post('/billing/in');
  return (headers['set-cookie'] as unknown as string[])[0] as string;
}
const whoIs = async (app: express.Express, cookie: string) =>
  (await request(app).get('/billing/who').set('Cookie', cookie)).body as string | null;

it('over https the cookie is one that browsers take and send over TLS only', async () => {
  const app = appWith('https://buy.example.com');
  const cookie = await cookieOf(app);
  expect(cookie).toMatch(/^__Secure-tollgate_manage=/);
  expect(cookie).toMatch(/; Path=\/billing; .*; HttpOnly; Secure; SameSite=Strict$/);
  expect(await whoIs(app, cookie.split(';')[0] as string)).toBe(KEY_ID);
  expect(await whoIs(app, (cookie.split(';')[0] as string).replace('__Secure-', ''))).toBeNull();
});

it('a cookie made under another server secret signs nobody in', async () => {
  const foreign = (await cookieOf(appWith('http://127.0.0.1', 'another secret'.repeat(3)))).split(';')[0];
  expect(await whoIs(appWith('http://127.0.0.1'), foreign as string)).toBeNull();
});

it('of several cookies of the name a good one counts, whatever stands beside it', async () => {
  const app = appWith('http://127.0.0.1');
  const good = (await cookieOf(app)).split(';')[0];
  expect(await whoIs(app, `a=b; tollgate_manage=planted.1.x; ${good}; =; c`)).toBe(KEY_ID);
});
