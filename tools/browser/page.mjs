// Looks at the status page in headless Chromium, as a phone without JavaScript
// would, and answers each line on stdin ("look", or "shot FILE") with one line
// of JSON. It is started by cmd/sluice/browser_test.go.
import { chromium } from 'playwright-core';
import { createInterface } from 'node:readline';

const [url, executablePath] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const context = await browser.newContext({
  viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, javaScriptEnabled: false,
});
const page = await context.newPage();
const foreign = [];
const complaints = [];
page.on('request', (r) => { if (!r.url().startsWith(url) && !r.url().startsWith('data:')) foreign.push(r.url()); });
page.on('console', (m) => { if (m.type() === 'error') complaints.push(m.text()); });
page.on('requestfailed', (r) => complaints.push(`${r.url()}: ${r.failure()?.errorText}`));

async function look() {
  const response = await page.goto(url, { waitUntil: 'load' });
  const card = async (section, item) => ({
    section,
    name: await item.locator('h3').first().innerText(),
    word: await item.locator('.word').first().innerText(),
    edge: await item.evaluate((e) => getComputedStyle(e).borderLeftColor),
    text: await item.innerText(),
  });
  const cards = [];
  for (const section of ['devices', 'machines', 'uplinks', 'buffer']) {
    for (const item of await page.locator(`#${section} article`).all()) cards.push(await card(section, item));
  }
  const problems = await page.locator('#problems article').allInnerTexts();
  const sum = await page.locator('.sum').innerText();
  // What a hand-held screen shows: nothing to the right of it, no letters that
  // need a magnifier, and nothing that needs a script.
  const shape = await page.evaluate(() => {
    const all = [...document.body.querySelectorAll('*')];
    return {
      wide: document.documentElement.scrollWidth > document.documentElement.clientWidth
        || all.some((e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5),
      smallest: Math.min(...all.map((e) => parseFloat(getComputedStyle(e).fontSize))),
      scripts: document.scripts.length,
      width: document.documentElement.clientWidth,
    };
  });
  return { status: response.status(), sum, problems, cards, foreign, complaints, ...shape };
}

for await (const line of createInterface({ input: process.stdin })) {
  const [command, file] = line.split(' ');
  let answer;
  try {
    answer = await look();
    if (command === 'shot') await page.screenshot({ path: file, fullPage: false });
  } catch (e) {
    answer = { error: String(e) };
  }
  console.log(JSON.stringify(answer));
}
await browser.close();
