// Looks at the status page in headless Chromium, as a phone without JavaScript
// would, and answers each line on stdin with one line of JSON: "look" and "shot
// FILE" for the first page, "visit PATH" for another, "press SELECTOR" for a click
// on what that one shows, "picture FILE" for a screenshot of it. It is started by cmd/sluice/browser_test.go.
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
  return { status: response.status(), sum, problems, cards, foreign, complaints, ...await shape() };
}

// What a hand-held screen shows: nothing to the right of it, no letters that need
// a magnifier, and nothing that needs a script.
async function shape() {
  return page.evaluate(() => {
    const all = [...document.body.querySelectorAll('*')];
    return {
      wide: document.documentElement.scrollWidth > document.documentElement.clientWidth
        || all.some((e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5),
      smallest: Math.min(...all.map((e) => parseFloat(getComputedStyle(e).fontSize))),
      scripts: document.scripts.length,
      width: document.documentElement.clientWidth,
    };
  });
}

// What stands on another page.
async function told(status) {
  return {
    status, path: new URL(page.url()).pathname + new URL(page.url()).search,
    text: await page.locator('body').innerText(),
    entries: await page.locator('article.entry').allInnerTexts(),
    links: await page.locator('a').evaluateAll((all) => all.map((a) => a.getAttribute('href'))),
    foreign, complaints, ...await shape(),
  };
}

async function visit(path) {
  const response = await page.goto(new URL(path, url).href, { waitUntil: 'load' });
  return told(response.status());
}

async function press(selector) {
  const [response] = await Promise.all([page.waitForNavigation({ waitUntil: 'load' }), page.locator(selector).first().click()]);
  return told(response.status());
}

for await (const line of createInterface({ input: process.stdin })) {
  const [command] = line.split(' ', 1);
  const rest = line.slice(command.length + 1);
  let answer;
  try {
    if (command === 'visit') answer = await visit(rest);
    else if (command === 'press') answer = await press(rest);
    else if (command === 'picture') {
      await page.screenshot({ path: rest, fullPage: false });
      answer = await told(200);
    } else {
      answer = await look();
      if (command === 'shot') await page.screenshot({ path: rest, fullPage: false });
    }
  } catch (e) {
    answer = { error: String(e) };
  }
  console.log(JSON.stringify(answer));
}
await browser.close();
