"""The parts of the pages that need no page: streams, Markdown, conversations. Run where they run, in a browser."""

import random
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = ["page_browser"]
pytestmark = pytest.mark.extras

READ = """async (pieces) => {
  const { readData } = await import('/pages/stream.js');
  const start = (out) => {
    for (const piece of pieces) out.enqueue(new Uint8Array(piece));
    out.close();
  };
  const body = new ReadableStream({ start });
  const found = [];
  for await (const data of readData(body)) found.push(data);
  return found;
}"""
RENDER = """async (text) => {
  const { renderMarkdown } = await import('/pages/markdown.js');
  const root = document.createElement('div');
  root.append(renderMarkdown(text));
  return root.innerHTML;
}"""
GROW = """async ([text, sizes]) => {
  const { LiveText } = await import('/pages/live.js');
  const { renderMarkdown } = await import('/pages/markdown.js');
  const [grown, whole] = [document.createElement('div'), document.createElement('div')];
  const live = new LiveText(grown);
  let end = 0;
  for (const size of sizes) { end += size; live.text = text.slice(0, end); live.draw(); }
  live.finish(text);
  for (const tail of grown.querySelectorAll('.tail')) tail.replaceWith(...tail.childNodes);
  whole.append(renderMarkdown(text));
  return [grown.innerHTML.replaceAll('\\n', ''), whole.innerHTML.replaceAll('\\n', '')];
}"""
DOCUMENT = """# 标题

第一段，**“粗体”**和`代码`，见[链接][1]。
第二行

- 一
- 二

  二的后续
    - 深

1. 甲
2. 乙

```python
print("你好")

# 空行之后
```
| 左 | 右 |
|:---|---:|
| 1 | 2 |

> 引文
> - 列表

段落
---

* * *

最后 $a_b*c*$ 一段

[1]: https://example.com/
"""


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_events_are_the_same_however_the_bytes_are_cut(modules: "Page", end: str) -> None:
    lines = [": 注释", "", 'data: {"a":"你好👋"}', "", "event: x", "data:一", "data: 二", "", "data: [DONE]", "", ""]
    stream = end.join(lines).encode()
    rng = random.Random(0)
    for _ in range(30):
        cuts = sorted(rng.sample(range(1, len(stream)), 12))
        pieces = [list(stream[a:b]) for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        assert modules.evaluate(READ, pieces) == ['{"a":"你好👋"}', "一\n二", "[DONE]"]


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("**“文字”**中文", "<strong>“文字”</strong>中文"),
        ("中文**“文字”**中文", "中文<strong>“文字”</strong>中文"),
        ("**注意：**请看", "<strong>注意：</strong>请看"),
        ("**注意：**see", "<strong>注意：</strong>see"),
        ("他说**（一）**和**（二）**。", "他说<strong>（一）</strong>和<strong>（二）</strong>。"),
        ("“引”**重点**，再**“点”**。", "“引”<strong>重点</strong>，再<strong>“点”</strong>。"),
        ("*《书名》*很好", '<em class="han">《书名》</em>很好'),
        ("~~“旧”~~新", "<s>“旧”</s>新"),
        ('**"quoted"**中文', '<strong>"quoted"</strong>中文'),
        ("***“又粗又斜”***中", '<em class="han"><strong>“又粗又斜”</strong></em>中'),
        # Elsewhere CommonMark stays as it is.
        ('**"a"**b', '**"a"**b'),
        ("2 * 3 * 4", "2 * 3 * 4"),
        ("snake_case_name 和 _“下划线”_中", "snake_case_name 和 _“下划线”_中"),
        ("**没有结尾的“粗体”中文", "**没有结尾的“粗体”中文"),
    ],
)
def test_emphasis_comes_out_beside_chinese_marks(modules: "Page", text: str, html: str) -> None:
    assert modules.evaluate(RENDER, text).strip() == f"<p>{html}</p>"


@pytest.mark.parametrize(
    "formula", ["$a_b*c*d$", "$$\nx_1 * x_2\n$$", "\\(a_b*c*d\\)", "\\[\n\\frac{a}{b}\n\\]", "$\\alpha<\\beta$"]
)
def test_formulas_stay_as_they_are_written(modules: "Page", formula: str) -> None:
    html = modules.evaluate(RENDER, f"设{formula}，则")
    shown = formula.replace("&", "&amp;").replace("<", "&lt;")
    assert html == f'<p>设<span class="math">{shown}</span>，则</p>\n'


@pytest.mark.parametrize("text", ["从 $5 到 $6 元", "只有一个 $", "\\(没有结尾"])
def test_money_is_no_formula(modules: "Page", text: str) -> None:
    assert 'class="math"' not in modules.evaluate(RENDER, text)


def test_a_growing_answer_ends_as_the_whole_would(modules: "Page") -> None:
    rng = random.Random(1)
    for _ in range(15):
        sizes, rest = [], len(DOCUMENT)
        while rest > 0:
            sizes.append(min(rest, rng.randint(1, 25)))
            rest -= sizes[-1]
        grown, whole = modules.evaluate(GROW, [DOCUMENT, sizes])
        assert grown == whole


def test_finished_blocks_are_drawn_once(modules: "Page") -> None:
    kept = modules.evaluate(
        """async () => {
          const { LiveText } = await import('/pages/live.js');
          const root = document.createElement('div');
          const live = new LiveText(root);
          live.text = '第一段\\n\\n第二段\\n\\n```\\ncode'; live.draw();
          const [first, code] = [root.firstElementChild, root.querySelector('code')];
          live.text += ' more\\n'; live.draw();
          return [first === root.firstElementChild, code === root.querySelector('code'), code.textContent];
        }"""
    )
    assert kept == [True, True, "code more\n"]


def test_twenty_thousand_characters_stay_smooth(modules: "Page") -> None:
    """Each drawing of a long answer fits a frame or two even here: only its last block is drawn."""
    worst = modules.evaluate(
        """async () => {
          const { LiveText } = await import('/pages/live.js');
          const root = document.createElement('div');
          document.querySelector('#thread').append(root);
          const live = new LiveText(root);
          const text = '这是一段不短的中文，里面有**重点**和`代码`，一共四十来个字。\\n\\n'.repeat(600);
          const times = [];
          for (let end = 0; end < text.length; end += 40) {
            const start = performance.now();
            live.text = text.slice(0, end); live.draw();
            times.push(performance.now() - start);
          }
          return [text.length, times.sort((a, b) => a - b)[Math.floor(times.length * 0.95)]];
        }"""
    )
    assert worst[0] > 20_000
    assert worst[1] < 34


def test_no_version_of_a_conversation_is_ever_lost(modules: "Page") -> None:
    """Edits, new answers and swaps in any order: every text that was there can be found."""
    lost = modules.evaluate(
        """async () => {
          const { putAside, bringBack } = await import('/pages/versions.js');
          const chat = { messages: [], asides: [] };
          const all = [];
          const everything = (one) => [...one.messages, ...one.asides.flatMap(everything)];
          let seed = 7;
          const pick = (n) => (seed = (seed * 48271) % 2147483647) % n;
          for (let step = 0; step < 400; step++) {
            if (chat.asides.length > 0 && pick(3) === 0) bringBack(chat, chat.asides[pick(chat.asides.length)]);
            else {
              if (chat.messages.length > 0 && pick(2) === 0) putAside(chat, pick(chat.messages.length));
              all.push('text ' + step);
              chat.messages = [...chat.messages, { content: 'text ' + step }];
            }
          }
          const found = new Set(everything(chat).map((message) => message.content));
          return all.filter((text) => !found.has(text));
        }"""
    )
    assert lost == []


def test_a_request_has_turns_that_alternate(modules: "Page") -> None:
    turns = modules.evaluate(
        """async () => {
          const { toRequest } = await import('/pages/store.js');
          const roles = [['user', '一'], ['assistant', ''], ['user', '二'], ['assistant', '答'], ['user', '三']];
          const messages = roles.map(([role, content]) => ({ role, content }));
          return toRequest({ settings: { system: ' ' } }, messages);
        }"""
    )
    assert [(turn["role"], turn["content"]) for turn in turns] == [
        ("user", "一\n\n二"),
        ("assistant", "答"),
        ("user", "三"),
    ]


def test_what_another_version_wrote_is_left_alone(modules: "Page") -> None:
    found = modules.evaluate(
        """async () => {
          const { Store } = await import('/pages/store.js');
          localStorage.setItem('baihua.chat.odd', 'not json');
          localStorage.setItem('baihua.chat.new', '{"id":"new","parts":[]}');
          const store = new Store(localStorage);
          const [odd, young] = ['odd', 'new'].map((name) => localStorage.getItem('baihua.chat.' + name));
          return [store.list().length, odd, young];
        }"""
    )
    assert found == [0, "not json", '{"id":"new","parts":[]}']
