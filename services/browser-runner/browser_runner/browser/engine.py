"""The selector engine that finds what a target means, inside the page and in one go with the act on it.

Playwright evaluates a selector part by part, each part on all that the parts before it have left. So a target becomes
one selector: `begin`, its locators with a `mark` behind each, and `judge`, which knows all marks by then and lets
through the one element that is meant, or none, or throws. A click by that selector finds, proves and acts in one call,
and is judged again whenever Playwright has to look again.

`note` answers instead with an element of no document whose text is JSON about what was found. The engine lives in
Playwright's own world of the page: scripts of the page do not see it and cannot change what it stands on.
"""

from __future__ import annotations

from typing import Any

import msgspec

NAME = "towpath"
THROWN = "towpath:"
"""Before the code and the text of what `judge` throws."""

KINDS_OF_CONTAINERS = {
    "article": "article, [role=article]",
    "banner": "header, [role=banner]",
    "cell": "td, th, [role=cell], [role=gridcell]",
    "complementary": "aside, [role=complementary]",
    "contentinfo": "footer, [role=contentinfo]",
    "dialog": "dialog, [role=dialog], [role=alertdialog]",
    "form": "form, [role=form]",
    "group": "fieldset, [role=group]",
    "list": "ul, ol, [role=list]",
    "listitem": "li, [role=listitem]",
    "main": "main, [role=main]",
    "menu": "menu, [role=menu], [role=menubar]",
    "navigation": "nav, [role=navigation]",
    "region": "section, [role=region]",
    "row": "tr, [role=row]",
    "search": "search, [role=search]",
    "table": "table, [role=table], [role=grid], [role=treegrid]",
    "tabpanel": "[role=tabpanel]",
    "toolbar": "[role=toolbar]",
}
"""css of each kind of container that an identity may name."""


def part(op: str, **more: Any) -> str:
    """One part of a selector."""
    return f"{NAME}={msgspec.json.encode({'op': op, **more}).decode()}"


SOURCE = """(() => {
  let marks = new Map(), boxes = new Set(), verdict;
  const held = new Map();

  const shown = e => {
    const box = e.getBoundingClientRect();
    return box.width > 0 && box.height > 0 && e.checkVisibility({visibilityProperty: true});
  };
  const enabled = e => !e.matches(':disabled') && e.getAttribute('aria-disabled') !== 'true';
  const around = (e, css) => {
    for (let at = e; at; at = at.getRootNode().host) {
      const found = (at === e ? at.parentElement : at)?.closest(css);
      if (found) return found;
    }
    return null;
  };
  const plain = text => (text || '').replace(/\\s+/g, ' ').trim();
  const typeOf = e => (e.getAttribute('type') || '').toLowerCase();
  const wordsOf = (e, length) => plain(e.innerText).slice(0, length);
  const factsOf = e => ({tag: e.localName, type: typeOf(e), enabled: enabled(e)});

  const differs = (e, aim) => {
    if (aim.tag && aim.tag !== e.localName) return ['target_changed', `tag is "${e.localName}", not "${aim.tag}"`];
    if (aim.type && aim.type !== typeOf(e)) return ['target_changed', `type is "${typeOf(e)}", not "${aim.type}"`];
    if (aim.container && !around(e, aim.around)) return ['target_changed', `it stands in no ${aim.container}`];
    if (aim.link) {
      const scripted = ['onclick', 'data-method', 'data-confirm', 'download'].some(name => e.hasAttribute(name));
      if (e.localName !== 'a' || scripted || !/^https?:/.test(e.href))
        return ['target_changed', 'it is no plain link, so a click on it may do more than view a page'];
    }
    if (aim.at && new URL(aim.at).origin !== location.origin)
      return ['target_changed', 'the page has become one of another host'];
    if (aim.proof && !aim.proof.some(name => marks.get(name)?.has(e))) return ['target_unproven', ''];
    return null;
  };

  const decide = aim => {
    const meant = new Set(), hits = [];
    for (let i = 0; i < aim.locators; i++) {
      const all = [...(marks.get(String(i)) ?? [])];
      const visible = all.filter(shown), able = visible.filter(enabled);
      let usable = (aim.hidden ? all : visible).filter(e => !aim.enabled || enabled(e));
      if (usable.length > 1 && aim.container) usable = usable.filter(e => around(e, aim.around));
      if (usable.length === 1) meant.add(usable[0]);
      hits.push({matches: all.length, visible: visible.length, enabled: able.length, usable: usable.length});
    }
    if (meant.size > 1) return {hits, code: 'target_conflict', told: ''};
    if (meant.size === 0) return {hits, code: 'target_missing', told: ''};
    const [element] = meant;
    const [code, told] = differs(element, aim) ?? ['', ''];
    return {hits, code, told, element};
  };

  const say = e => {
    const name = ['role', 'id'].map(a => e.getAttribute(a) ? ` ${a}="${e.getAttribute(a).slice(0, 40)}"` : '').join('');
    const text = plain(e.getAttribute('aria-label') || e.innerText).slice(0, 80);
    return `<${e.localName}${name}>` + (text ? ` "${text}"` : '');
  };
  const holds = (e, hit) => {
    const own = e.matches('input, textarea, select') ? e : e.closest('button, [role=button], a, [role=link]') ?? e;
    for (let at = hit; at; at = at.assignedSlot ?? at.parentNode ?? at.host) if (at === own) return true;
    return false;
  };
  const cover = e => {
    const middle = () => {
      const box = e.getClientRects()[0] ?? e.getBoundingClientRect();
      return [box.left + box.width / 2, box.top + box.height / 2];
    };
    let [x, y] = middle();
    if (x < 0 || y < 0 || x > innerWidth || y > innerHeight) {
      e.scrollIntoView({block: 'center', inline: 'center', behavior: 'instant'});
      [x, y] = middle();
    }
    let hit = document.elementFromPoint(x, y);
    for (let inner; hit?.shadowRoot && (inner = hit.shadowRoot.elementFromPoint(x, y)) && inner !== hit;) hit = inner;
    if (!hit) return 'the edge of the window';
    if (holds(e, hit)) return '';
    while (hit.parentElement && !hit.parentElement.contains(e)) hit = hit.parentElement;
    return say(hit);
  };

  const looks = {
    sight: aim => {
      const {hits, code, told, element} = decide(aim);
      const found = [...marks].flatMap(([name, those]) => name === 'proof' ? [] : [...those]);
      const seen = aim.texts ? [...new Set(found)].filter(shown).slice(0, 20) : [];
      const texts = seen.map(e => wordsOf(e, 1000));
      const covered = element && aim.cover ? cover(element) : '';
      return {hits, code, told, texts, covered, containers: boxes.size, facts: element ? factsOf(element) : null};
    },
    place: () => {
      const dialogs = 'dialog[open], [role=dialog], [role=alertdialog], [aria-modal=true]';
      const open = [...document.querySelectorAll(dialogs)].find(shown);
      return {
        status: performance.getEntriesByType('navigation')[0]?.responseStatus ?? 0,
        dialog: open ? plain(open.getAttribute('aria-label') || open.innerText).slice(0, 200) || open.localName : '',
      };
    },
    value: ({ref}) => {
      const e = held.get(ref);
      return e ? {value: 'value' in e ? String(e.value) : e.innerText} : {};
    },
    labels: ({ref}) => ({labels: [...(held.get(ref)?.selectedOptions ?? [])].map(o => o.label)}),
  };

  const ops = {
    begin: root => { marks = new Map(); boxes = new Set(); verdict = undefined; return [root]; },
    box: root => { boxes.add(root); return [root]; },
    only: root => boxes.size === 1 ? [root] : [],
    mark: (root, {as}) => {
      if (!marks.has(as)) marks.set(as, new Set());
      marks.get(as).add(root);
      return [root];
    },
    judge: (root, aim) => {
      verdict ??= decide(aim);
      const {code, told, element} = verdict;
      if (code && code !== 'target_missing') throw new Error(`towpath:${code}:${told}`);
      if (element !== root) return [];
      if (held.size > 20) held.clear();
      held.set(aim.ref, element);
      return [root];
    },
    none: () => [],
    held: (_root, {ref}) => held.has(ref) ? [held.get(ref)] : [],
    note: (_root, asked) => {
      const note = document.createElement('span');
      note.textContent = JSON.stringify(looks[asked.what](asked));
      return [note];
    },
  };
  const parsed = new Map();
  const read = body => {
    if (!parsed.has(body)) {
      if (parsed.size > 500) parsed.clear();
      parsed.set(body, JSON.parse(body));
    }
    return parsed.get(body);
  };
  const queryAll = (root, body) => ops[read(body).op](root, read(body));
  return {query: (root, body) => queryAll(root, body)[0] ?? null, queryAll};
})()"""
"""Registered once per driver, as a content script."""
