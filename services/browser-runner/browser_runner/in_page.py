"""What we ask a page in its own language. Each script only reads; what it returns is data from a hostile page."""

CHANGED = """ms => new Promise(done => {
  const end = () => { observer.disconnect(); clearTimeout(alarm); done(); };
  const observer = new MutationObserver(end);
  const alarm = setTimeout(end, ms);
  observer.observe(document, {subtree: true, childList: true, attributes: true, characterData: true});
})"""

OUTLINE_HASH = """() => {
  const text = location.href + '\\n' + (document.body?.innerText || '');
  let hash = 5381;
  for (let i = 0; i < text.length; i++) hash = (hash * 33 ^ text.charCodeAt(i)) | 0;
  return String(hash);
}"""

VALUE_OF = """(e, attribute) => {
  if (attribute) return ['href', 'src'].includes(attribute) ? e[attribute] ?? null : e.getAttribute(attribute);
  return /^(INPUT|TEXTAREA|SELECT)$/.test(e.tagName) ? e.value : e.innerText;
}"""

ROWS = (
    """(rows, fields) => { const valueOf = """
    + VALUE_OF
    + """;
  return rows.map(row => Object.fromEntries(fields.map(([name, css, attribute]) => {
    const e = css ? row.querySelector(css) : row;
    return [name, e ? valueOf(e, attribute) : null];
  })));
}"""
)

COMPLAINTS = """most => {
  const bad = /(^|[-_])(errors?|errorlist|danger|invalid)([-_](feedback|list|messages?|msg|summary|text))?$/i;
  const words = text => (text || '').replace(/\\s+/g, ' ').trim().slice(0, 200);
  const shown = e => e.checkVisibility({visibilityProperty: true, opacityProperty: true});
  const complains = e => !/^(BODY|HTML|FORM|MAIN|INPUT|SELECT|TEXTAREA|BUTTON|A)$/.test(e.tagName)
    && (/^alert(dialog)?$/.test(e.getAttribute('role')) || [...e.classList].some(name => bad.test(name)))
    && shown(e) && words(e.innerText) && !e.querySelector('input, select, textarea');
  const told = [];
  for (const e of document.querySelectorAll('[role], [class]'))
    if (complains(e) && !told.some(other => other.contains(e))) told.push(e);
  const label = e => words(e.labels?.[0]?.innerText || e.getAttribute('aria-label') || e.placeholder || e.name);
  const hints = e => (e.getAttribute('aria-errormessage') || e.getAttribute('aria-describedby') || '').split(' ')
    .map(id => id && document.getElementById(id)).filter(hint => hint && !told.some(other => other.contains(hint)))
    .map(hint => words(hint.innerText)).join(' ');
  const fields = [...document.querySelectorAll('[aria-invalid=true], :user-invalid')].filter(shown)
    .map(e => [label(e), hints(e) || e.validationMessage || '']).filter(([name, why]) => name && why)
    .map(([name, why]) => `${name}: ${words(why)}`);
  return [...new Set([...told.map(e => words(e.innerText)), ...fields])].slice(0, most);
}"""
"""What the page itself finds wrong: its alerts, what is drawn as an error, and fields that are marked as invalid."""

TABLE = """table => {
  const own = row => row.closest('table, [role=grid], [role=table]') === table;
  const rows = [...table.querySelectorAll('tr, [role=row]')].filter(row => own(row) && row.checkVisibility());
  const text = cell => cell.innerText.trim();
  const heads = row => [...row.querySelectorAll(':scope > th, :scope > [role=columnheader]')];
  const data = ':scope > td, :scope > [role=cell], :scope > [role=gridcell]';
  const cells = row => [...row.querySelectorAll(data + ', :scope > th, :scope > [role=rowheader]')];
  const header = rows.find(row => heads(row).length > 1 || (heads(row).length && !row.querySelector(':scope > td')));
  return [header ? heads(header).map(text) : [],
    rows.filter(row => row !== header && !row.closest('thead, tfoot') && row.querySelector(data))
      .map(row => cells(row).map(text))];
}"""

SCROLL = """(box, [to, ms]) => new Promise(done => {
  const doc = box ? box.ownerDocument : document;
  const what = box || doc.scrollingElement || doc.documentElement;
  const before = what.scrollTop;
  const end = () => {
    observer.disconnect(); clearTimeout(alarm); setTimeout(() => done(what.scrollTop !== before), 20);
  };
  const observer = new MutationObserver(end);
  const alarm = setTimeout(end, ms);
  observer.observe(doc, {subtree: true, childList: true, attributes: true, characterData: true});
  what.scrollTop = to === 'end' ? what.scrollHeight : before + Math.max(what.clientHeight * 0.8, 1);
  if (what.scrollTop === before) end();
})"""
SCROLL_PAGE = f"args => ({SCROLL})(null, args)"

SESSION_STORAGE = "() => [location.origin, Object.entries(sessionStorage)]"

RESTORE_SESSION_STORAGE = """(() => {
  const kept = (%s)[location.origin];
  if (kept && sessionStorage.length === 0) for (const [name, value] of kept) sessionStorage.setItem(name, value);
})()"""
