"""Register layouts of the SunSpec information models the devices offer (SunSpec Alliance, "SunSpec Information Models").

One row a point, in register order, after the two header registers (ID, L): ``name:type`` or ``name:type*scale factor``.
Types: u16 i16 e16 b16 u32 i32 b32 u64 as named, a32 accumulator, sf scale factor, pad, sN string of N registers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

_LAYOUTS: Final[dict[int, str]] = {
    1: """
        Mn:s16 Md:s16 Opt:s8 Vr:s8 SN:s16 DA:u16 Pad:pad
    """,
    103: """
        A:u16*A_SF AphA:u16*A_SF AphB:u16*A_SF AphC:u16*A_SF A_SF:sf PPVphAB:u16*V_SF PPVphBC:u16*V_SF PPVphCA:u16*V_SF
        PhVphA:u16*V_SF PhVphB:u16*V_SF PhVphC:u16*V_SF V_SF:sf W:i16*W_SF W_SF:sf Hz:u16*Hz_SF Hz_SF:sf VA:i16*VA_SF
        VA_SF:sf VAr:i16*VAr_SF VAr_SF:sf PF:i16*PF_SF PF_SF:sf WH:a32*WH_SF WH_SF:sf DCA:u16*DCA_SF DCA_SF:sf
        DCV:u16*DCV_SF DCV_SF:sf DCW:i16*DCW_SF DCW_SF:sf TmpCab:i16*Tmp_SF TmpSnk:i16*Tmp_SF TmpTrns:i16*Tmp_SF
        TmpOt:i16*Tmp_SF Tmp_SF:sf St:e16 StVnd:e16 Evt1:b32 Evt2:b32 EvtVnd1:b32 EvtVnd2:b32 EvtVnd3:b32 EvtVnd4:b32
    """,
    123: """
        Conn_WinTms:u16 Conn_RvrtTms:u16 Conn:e16 WMaxLimPct:u16*WMaxLimPct_SF WMaxLimPct_WinTms:u16 WMaxLimPct_RvrtTms:u16
        WMaxLimPct_RmpTms:u16 WMaxLim_Ena:e16 OutPFSet:i16*OutPFSet_SF OutPFSet_WinTms:u16 OutPFSet_RvrtTms:u16
        OutPFSet_RmpTms:u16 OutPFSet_Ena:e16 VArWMaxPct:i16*VArPct_SF VArMaxPct:i16*VArPct_SF VArAvalPct:i16*VArPct_SF
        VArPct_WinTms:u16 VArPct_RvrtTms:u16 VArPct_RmpTms:u16 VArPct_Mod:e16 VArPct_Ena:e16 WMaxLimPct_SF:sf OutPFSet_SF:sf
        VArPct_SF:sf
    """,
    124: """
        WChaMax:u16*WChaMax_SF WChaGra:u16*WChaDisChaGra_SF WDisChaGra:u16*WChaDisChaGra_SF StorCtl_Mod:b16
        VAChaMax:u16*VAChaMax_SF MinRsvPct:u16*MinRsvPct_SF ChaState:u16*ChaState_SF StorAval:u16*StorAval_SF
        InBatV:u16*InBatV_SF ChaSt:e16 OutWRte:i16*InOutWRte_SF InWRte:i16*InOutWRte_SF InOutWRte_WinTms:u16
        InOutWRte_RvrtTms:u16 InOutWRte_RmpTms:u16 ChaGriSet:e16 WChaMax_SF:sf WChaDisChaGra_SF:sf VAChaMax_SF:sf
        MinRsvPct_SF:sf ChaState_SF:sf StorAval_SF:sf InBatV_SF:sf InOutWRte_SF:sf
    """,
    203: """
        A:i16*A_SF AphA:i16*A_SF AphB:i16*A_SF AphC:i16*A_SF A_SF:sf PhV:i16*V_SF PhVphA:i16*V_SF PhVphB:i16*V_SF
        PhVphC:i16*V_SF PPV:i16*V_SF PhVphAB:i16*V_SF PhVphBC:i16*V_SF PhVphCA:i16*V_SF V_SF:sf Hz:i16*Hz_SF Hz_SF:sf
        W:i16*W_SF WphA:i16*W_SF WphB:i16*W_SF WphC:i16*W_SF W_SF:sf VA:i16*VA_SF VAphA:i16*VA_SF VAphB:i16*VA_SF
        VAphC:i16*VA_SF VA_SF:sf VAR:i16*VAR_SF VARphA:i16*VAR_SF VARphB:i16*VAR_SF VARphC:i16*VAR_SF VAR_SF:sf PF:i16*PF_SF
        PFphA:i16*PF_SF PFphB:i16*PF_SF PFphC:i16*PF_SF PF_SF:sf TotWhExp:a32*TotWh_SF TotWhExpPhA:a32*TotWh_SF
        TotWhExpPhB:a32*TotWh_SF TotWhExpPhC:a32*TotWh_SF TotWhImp:a32*TotWh_SF TotWhImpPhA:a32*TotWh_SF
        TotWhImpPhB:a32*TotWh_SF TotWhImpPhC:a32*TotWh_SF TotWh_SF:sf TotVAhExp:a32*TotVAh_SF TotVAhExpPhA:a32*TotVAh_SF
        TotVAhExpPhB:a32*TotVAh_SF TotVAhExpPhC:a32*TotVAh_SF TotVAhImp:a32*TotVAh_SF TotVAhImpPhA:a32*TotVAh_SF
        TotVAhImpPhB:a32*TotVAh_SF TotVAhImpPhC:a32*TotVAh_SF TotVAh_SF:sf TotVArhImpQ1:a32*TotVArh_SF
        TotVArhImpQ1PhA:a32*TotVArh_SF TotVArhImpQ1PhB:a32*TotVArh_SF TotVArhImpQ1PhC:a32*TotVArh_SF
        TotVArhImpQ2:a32*TotVArh_SF TotVArhImpQ2PhA:a32*TotVArh_SF TotVArhImpQ2PhB:a32*TotVArh_SF
        TotVArhImpQ2PhC:a32*TotVArh_SF TotVArhExpQ3:a32*TotVArh_SF TotVArhExpQ3PhA:a32*TotVArh_SF
        TotVArhExpQ3PhB:a32*TotVArh_SF TotVArhExpQ3PhC:a32*TotVArh_SF TotVArhExpQ4:a32*TotVArh_SF
        TotVArhExpQ4PhA:a32*TotVArh_SF TotVArhExpQ4PhB:a32*TotVArh_SF TotVArhExpQ4PhC:a32*TotVArh_SF TotVArh_SF:sf Evt:b32
    """,
    701: """
        ACType:e16 St:e16 InvSt:e16 ConnSt:e16 Alrm:b32 DERMode:b32 W:i16*W_SF VA:i16*VA_SF Var:i16*Var_SF PF:i16*PF_SF
        A:i16*A_SF LLV:u16*V_SF LNV:u16*V_SF Hz:u32*Hz_SF TotWhInj:u64*TotWh_SF TotWhAbs:u64*TotWh_SF
        TotVarhInj:u64*TotVarh_SF TotVarhAbs:u64*TotVarh_SF TmpAmb:i16*Tmp_SF TmpCab:i16*Tmp_SF TmpSnk:i16*Tmp_SF
        TmpTrns:i16*Tmp_SF TmpSw:i16*Tmp_SF TmpOt:i16*Tmp_SF WL1:i16*W_SF VAL1:i16*VA_SF VarL1:i16*Var_SF PFL1:i16*PF_SF
        AL1:i16*A_SF VL1L2:u16*V_SF VL1:u16*V_SF TotWhInjL1:u64*TotWh_SF TotWhAbsL1:u64*TotWh_SF TotVarhInjL1:u64*TotVarh_SF
        TotVarhAbsL1:u64*TotVarh_SF WL2:i16*W_SF VAL2:i16*VA_SF VarL2:i16*Var_SF PFL2:i16*PF_SF AL2:i16*A_SF VL2L3:u16*V_SF
        VL2:u16*V_SF TotWhInjL2:u64*TotWh_SF TotWhAbsL2:u64*TotWh_SF TotVarhInjL2:u64*TotVarh_SF TotVarhAbsL2:u64*TotVarh_SF
        WL3:i16*W_SF VAL3:i16*VA_SF VarL3:i16*Var_SF PFL3:i16*PF_SF AL3:i16*A_SF VL3L1:u16*V_SF VL3:u16*V_SF
        TotWhInjL3:u64*TotWh_SF TotWhAbsL3:u64*TotWh_SF TotVarhInjL3:u64*TotVarh_SF TotVarhAbsL3:u64*TotVarh_SF ThrotPct:u16
        ThrotSrc:b32 A_SF:sf V_SF:sf Hz_SF:sf W_SF:sf PF_SF:sf VA_SF:sf Var_SF:sf TotWh_SF:sf TotVarh_SF:sf Tmp_SF:sf
        MnAlrmInfo:s32
    """,
    704: """
        PFWInjEna:e16 PFWInjEnaRvrt:e16 PFWInjRvrtTms:u32 PFWInjRvrtRem:u32 PFWAbsEna:e16 PFWAbsEnaRvrt:e16
        PFWAbsRvrtTms:u32 PFWAbsRvrtRem:u32 WMaxLimPctEna:e16 WMaxLimPct:u16*WMaxLimPct_SF WMaxLimPctRvrt:u16*WMaxLimPct_SF
        WMaxLimPctEnaRvrt:e16 WMaxLimPctRvrtTms:u32 WMaxLimPctRvrtRem:u32 WSetEna:e16 WSetMod:e16 WSet:i32*WSet_SF
        WSetRvrt:i32*WSet_SF WSetPct:i16*WSetPct_SF WSetPctRvrt:i16*WSetPct_SF WSetEnaRvrt:e16 WSetRvrtTms:u32
        WSetRvrtRem:u32 VarSetEna:e16 VarSetMod:e16 VarSetPri:e16 VarSet:i32*VarSet_SF VarSetRvrt:i32*VarSet_SF
        VarSetPct:i16*VarSetPct_SF VarSetPctRvrt:i16*VarSetPct_SF VarSetEnaRvrt:e16 VarSetRvrtTms:u32 VarSetRvrtRem:u32
        WRmp:u16 WRmpRef:e16 VarRmp:u16 AntiIslEna:e16 PF_SF:sf WMaxLimPct_SF:sf WSet_SF:sf WSetPct_SF:sf VarSet_SF:sf
        VarSetPct_SF:sf PFWInj.PF:u16*PF_SF PFWInj.Ext:e16 PFWInjRvrt.PF:u16*PF_SF PFWInjRvrt.Ext:e16 PFWAbs.PF:u16*PF_SF
        PFWAbs.Ext:e16 PFWAbsRvrt.PF:u16*PF_SF PFWAbsRvrt.Ext:e16
    """,
    802: """
        AHRtg:u16*AHRtg_SF WHRtg:u16*WHRtg_SF WChaRteMax:u16*WChaDisChaMax_SF WDisChaRteMax:u16*WChaDisChaMax_SF
        DisChaRte:u16*DisChaRte_SF SoCMax:u16*SoC_SF SoCMin:u16*SoC_SF SocRsvMax:u16*SoC_SF SoCRsvMin:u16*SoC_SF
        SoC:u16*SoC_SF DoD:u16*DoD_SF SoH:u16*SoH_SF NCyc:u32 ChaSt:e16 LocRemCtl:e16 Hb:u16 CtrlHb:u16 AlmRst:u16 Typ:e16
        State:e16 StateVnd:e16 WarrDt:u32 Evt1:b32 Evt2:b32 EvtVnd1:b32 EvtVnd2:b32 V:u16*V_SF VMax:u16*V_SF VMin:u16*V_SF
        CellVMax:u16*CellV_SF CellVMaxStr:u16 CellVMaxMod:u16 CellVMin:u16*CellV_SF CellVMinStr:u16 CellVMinMod:u16
        CellVAvg:u16*CellV_SF A:i16*A_SF AChaMax:u16*AMax_SF ADisChaMax:u16*AMax_SF W:i16*W_SF ReqInvState:e16 ReqW:i16*W_SF
        SetOp:e16 SetInvState:e16 AHRtg_SF:sf WHRtg_SF:sf WChaDisChaMax_SF:sf DisChaRte_SF:sf SoC_SF:sf DoD_SF:sf SoH_SF:sf
        V_SF:sf CellV_SF:sf A_SF:sf AMax_SF:sf W_SF:sf
    """,
    713: """
        WHRtg:u16*WH_SF WHAvail:u16*WH_SF SoC:u16*Pct_SF SoH:u16*Pct_SF Sta:e16 WH_SF:sf Pct_SF:sf
    """,
}

#: Registers a type takes; strings carry their own length.
SIZES: Final = {
    "u16": 1, "i16": 1, "e16": 1, "b16": 1, "sf": 1, "pad": 1, "u32": 2, "i32": 2, "b32": 2, "a32": 2, "u64": 4,
}  # fmt: skip
#: Raw value that says "not implemented", by type (SunSpec Modbus, section "Data types").
NOT_IMPLEMENTED: Final = {
    "u16": 0xFFFF, "i16": 0x8000, "e16": 0xFFFF, "b16": 0xFFFF, "sf": 0x8000, "pad": 0x8000,
    "u32": 0xFFFFFFFF, "i32": 0x80000000, "b32": 0xFFFFFFFF, "a32": 0, "u64": 0xFFFFFFFFFFFFFFFF,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a model; ``offset`` counts registers from the model's ID register."""

    name: str
    kind: str
    offset: int
    size: int
    scale: str | None


@cache
def layout(model: int) -> tuple[Point, ...]:
    """All points of a model, header included.

    Raises:
        KeyError: When the simulator has no layout of that model.
    """
    rows: list[Point] = [Point("ID", "u16", 0, 1, None), Point("L", "u16", 1, 1, None)]
    offset = 2
    for word in _LAYOUTS[model].split():
        name, _, rest = word.partition(":")
        kind, _, scale = rest.partition("*")
        size = int(kind[1:]) if kind[0] == "s" and kind[1:].isdigit() else SIZES[kind]
        rows.append(Point(name, kind, offset, size, scale or None))
        offset += size
    return tuple(rows)
