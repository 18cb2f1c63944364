"""Drops answers that begin with a refusal, in Chinese or English.

Only the first characters of an answer are read, and an apology alone is not a refusal: words about a task that cannot
be done must follow. So letters of apology, quoted dialogue and explanations of refusals are kept, and so is an answer
in which the assistant first says that it has no feelings.
"""

from typing import Literal

from baihua.core.config import Base
from baihua.data.clean.contract import DropWhere, Expression, Part

KEPT = [
    "对不起，我迟到了，因为路上堵车。",
    "抱歉，我不能参加明天的会议。",
    "“对不起，我不能帮你”的英文是 I'm sorry, I can't help you.",
    "拒绝别人时可以说：抱歉，我无法提供帮助。",
    "我不会推荐这家餐厅，因为菜太咸了。",
    "GPT 语言模型无法完成的任务包括画图和播放声音。",
    "作为人工智能的一个分支，机器学习从数据中学习规律。",
    "作为一个人工智能语言模型，我没有感情，但我推荐这部电影。",
    "I'm sorry, I can't come to your party on Saturday.",
    "I cannot help but smile when I see the sea.",
    "As an AI company, we cannot ignore safety.",
]
DROPPED = [
    "作为一个人工智能语言模型，我无法提供医疗建议。",
    "作為一個語言模型，我不能預測股價。",
    "我只是一个AI助手，没有能力打开网页。",
    "很抱歉，我不能回答这个问题。",
    "抱歉，该任务涉及图像，无法完成。",
    "由于我看不到图片，我无法回答这个问题。",
    "我作为AI语言模型，不会提供这方面的指导。",
    "很抱歉，我作为一个语言模型不能给出投资建议。",
    "As an AI language model, I cannot browse the internet.",
    "I'm sorry, but I can't assist with that request.",
    "Sorry, I am not able to generate images.",
    "I’m unable to provide legal advice.",
    "I'm sorry, but as an AI language model, I am not capable of climbing mountains.",
]

NUM_OPENING_CHARS = 80

# ---- Chinese: who cannot, that it cannot, and what
_GREETING = r"(?:(?:您好|你好|尊敬的用户|亲爱的用户)[，,！!。]?\s*)?"
_SORRY = (
    r"(?:我们?)?(?:很|真的?|非常|十分|深感|实在)?(?:抱歉|遗憾|遺憾|对不起|對不起|不好意思)[，,。！!：:\s]*(?:但是?)?"
)
_CANNOT = r"(?:[无無]法|不能|不可以|[没沒]有?(?:办法|辦法|能力|权限|權限)|不具[备備]|[无無][权權]|不便)"
_WONT = r"不会(?:提供|协助|帮助|支持|鼓励|参与|推荐)"
_I = r"(?:我们?|我們|本(?:模型|系统|助手)|目前|暂时|现在|还|還|并|並|所以|因此|也)"
_AI = r"(?:AI|人工智能|人工智慧|语言模型|語言模型|聊天机器人|智能助手|虚拟助手)"
_DO = (
    r"(?:回答|回應|回应|提供|完成|生成|创建|創建|制作|协助|協助|帮助|幫助|满足|滿足|处理|處理|执行|執行|访问|訪問"
    r"|浏览|查看|打开|播放|显示|绘制|识别|讨论|给出|编写|撰写|翻译|预测|预订|支持|遵循|继续|设置|发送|透露|教[你您]|这样做|這樣做)"
)
_ASKED = r"(?:任务|任務|指令|要求|请求|請求|问题|問題|类型|話題|话题)"
_CHINESE = [
    rf"(?:{_SORRY})?我?(?:作为|作為|身为)[^。！？\n]{{0,12}}{_AI}[^。！？\n]{{0,20}}[，,]\s*{_I}*(?:{_CANNOT}|{_WONT})",
    rf"(?:{_SORRY}我?|我)作为[^。！？，\n]{{0,12}}{_AI}{_I}*{_CANNOT}",
    rf"(?:{_SORRY})?我只?是一?[个個名款]?[^。！？，\n]{{0,12}}{_AI}[^。！？，\n]{{0,10}}[，,。]\s*{_I}*{_CANNOT}",
    rf"(?:{_SORRY}我?{_WONT}|我不会(?:提供|协助))",
    rf"{_SORRY}{_I}*{_CANNOT}[^。！？，\n]{{0,15}}?{_DO}",
    rf"{_SORRY}(?:该|該|此|[这這][个個一种種项類类]*)(?:{_ASKED}|{_CANNOT})",
    rf"(?:由于[^。\n]{{0,30}}[，,]\s*)?我们?(?:目前|暂时)?{_CANNOT}(?:直接)?(?:回答|提供|生成|创建|协助|[为给帮][您你])",
    rf"(?:(?:GPT|AI)?\s*(?:语言)?模型)?{_CANNOT}(?:完成|执行|回答|处理)[此该这]",
    rf"[此该这][个项种]?{_ASKED}{_CANNOT}",
]
# ---- English, the same
_CANT = r"(?:cannot|can['’]?t|can not|am unable to|['’]m unable to|am not able to|['’]m not able to|am not capable of)"
_LACK = r"(?:do not|don['’]t) have (?:the |any )?(?:ability|access|capab|capacity)"
_HELP = r"help (?:you|with)|assist|answer|provide|generate|create|fulfil|comply"
_WORK = (
    rf"(?:{_HELP}|complete|perform|do (?:that|this|so)|access|browse|discuss|engage|execute|process|display|draw|play"
    r"|write|translate|predict|respond|continue|support)"
)
_BOT = r"(?:AI|artificial intelligence|language model|chatbot)(?: [a-z]+){0,3}"
_REGRET = r"(?:(?:I['’]m|I am|we are) )?(?:[a-z]+ )?(?:sorry|afraid)[,.!]? (?:but )?(?:that )?"
_TASK = r"(?:task|request|instruction|question)"
_ENGLISH = [
    rf"(?:{_REGRET})?as an? (?:[a-z]+ ){{0,2}}?{_BOT}, (?:so )?I ?(?:{_CANT}|{_LACK})",
    rf"{_REGRET}(?:I|we) ?{_CANT} (?:[a-z]+ )?{_WORK}",
    rf"(?:(?:I['’]m|I am) )?sorry[,.!]? (?:but )?(?:this|the|your) (?:[a-z]+ ){{0,2}}?{_TASK}",
    rf"(?:unfortunately, |due to [^.\n]{{0,60}}, )?I ?{_CANT} (?:directly )?(?:{_HELP})",
    rf"(?:sorry, )?(?:this|the) (?:(?:[a-z]+ )?{_TASK} )?(?:cannot|can['’]t) be (?:done|completed|performed)",
]
# Stanford Alpaca's data marks tasks without a result so, and its translations keep the mark.
_NO_OUTPUT = r"[<\[(（【]?(?:no\s?output|无输出|無輸出|没有输出)"
OPENING = rf"(?i)\A{_GREETING}(?:{'|'.join([*_CHINESE, *_ENGLISH, _NO_OUTPUT])})"


# A refusal in a later turn is as harmful as one in the first.
SCOPE = "message"


class Config(Base):
    """The texts in which refusals are searched."""

    kind: Literal["refusal"] = "refusal"
    """The name of this filter."""
    part: Part = "answers"
    """Texts of a row that are read, each message by itself: all, questions or answers."""


def check_column(text: Expression, config: Config) -> DropWhere:
    """Drop a text that begins with a refusal; the detail quotes it."""
    from daft.functions import when

    opening = text.lstrip().left(NUM_OPENING_CHARS)
    condition = opening.regexp(OPENING)
    # Extracting a match takes fifty times as long as testing for one, so it is done only for refusals.
    return DropWhere(condition, "refusal", when(condition, opening).regexp_extract(OPENING, 0))
