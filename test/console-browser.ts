/** A password that every user of the console has in tests. */
export const CONSOLE_PASSWORD = 'correct horse battery';

/** A key that an operator made, as `createKey` takes it. */
export const PRO_KEY = {
  mode: 'test',
  prefix: 'tg',
  planId: 'pro',
  name: null,
  expiresAt: null,
  actor: 'test',
} as const;

let lastAddress = 0;
/** An address that nothing came from before. */
const newAddress = () => `203.0.${++lastAddress >> 8}.${lastAddress & 255}`;

/** A browser as far as the console cares: it keeps cookies, follows nothing, and reads the token in a page's forms. */
export function consoleBrowser(url: string, address = newAddress()) {
  const cookies = new Map<string, string>();
  const browser = {
    address,
    cookies,
    async send(method: string, path: string, form?: Record<string, string>, headers = {}) {
      const response = await fetch(url + path, {
        method,
        redirect: 'manual',
        headers: {
          Accept: 'text/html',
          'X-Forwarded-For': address,
          'Sec-Fetch-Site': 'same-origin',
          Cookie: [...cookies].map((pair) => pair.join('=')).join('; '),
          ...headers,
        },
        ...(form && { body: new URLSearchParams(form) }),
      });
      for (const line of response.headers.getSetCookie()) {
        const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
        if (value === '') cookies.delete(name);
        else cookies.set(name, value);
      }
      return response;
    },
    get: (path: string) => browser.send('GET', path),
    page: async (path: string) => (await browser.get(path)).text(),
    signIn: (name: string, password = CONSOLE_PASSWORD) =>
      browser.send('POST', '/console/sign-in', { name, password }),
    /** Sends a form of a page, as somebody would who opened it. */
    async submit(path: string, fields: Record<string, string> = {}) {
      return browser.send('POST', path, { form_token: await browser.formToken(), ...fields });
    },
    async formToken() {
      return /name="form_token" value="([^"]+)"/.exec(await browser.page('/console/new-key'))?.[1] ?? '';
    },
  };
  return browser;
}
